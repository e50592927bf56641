#pragma once
/**
 * certs.d: certificates of one host (containers-certs.d(5); docker's and containerd's directories too). Plain value.
 */
#include "base/error.h"

struct certs {
        char *ca_pem;      /* extra certificate authorities, PEM, all of the directory's *.crt; NULL: none */
        char *client_cert; /* path of NAME.cert, NULL: none */
        char *client_key;  /* path of NAME.key */
        char *dir;         /* the directory that was used, for messages; NULL: none exists */
};
void certs_done(struct certs *c);

/** Finds what there is for "host[:port]". Nothing is success. -EINVAL: a certificate without its key, or the reverse. */
int certs_find(const char *domain, struct certs *ret_certs, struct error *err);
