#pragma once
/**
 * Addresses on the web, as far as a registry client cares: what lies at the same origin, where a redirect leads, which hosts
 * are this machine, and what may be shown of an address. Only http and https exist here. No state: any thread.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { URL_MAX = 16 << 10 };

/** One address in its parts. Release with url_done(). */
struct url {
        char *scheme; /* "http" or "https" */
        char *host;   /* lower case; an IPv6 address stands in its brackets */
        char *port;   /* digits, never NULL: the scheme's own when none is written */
};
void url_done(struct url *u);

/** -EINVAL: not an http or https address, longer than URL_MAX, or with a user name in it. */
int url_parse(const char *text, struct url *ret_url, struct error *err);

/** Scheme, host and port are equal; false also when one of them is no address. */
bool url_same_origin(const char *a, const char *b);

/** Where `location`, absolute or relative, leads from base (RFC 3986 §5), without its fragment; free() it. -EPROTO when that
 *  is nothing that url_parse() takes. */
int url_resolve(const char *base, const char *location, char **ret_url, struct error *err);

/** For logs and messages: without query, user and fragment ("?..." stands for a query); cut to fit. Returns out. */
const char *url_show(const char *url, char *out, size_t room);

/** "localhost", "*.localhost", 127.0.0.0/8, ::1; host as in struct url. */
bool host_is_loopback(const char *host);

/** An address literal that means nothing outside of a site: loopback, private, link-local, unspecified. Names: only those of
 *  host_is_loopback(). */
bool host_is_private(const char *host);
