#pragma once
/** Private to certs.c and its tests: the same with other folders than the machine's. */
#include <stdbool.h>
#include <stddef.h>

#include "source/certs.h"

/** A folder whose sub-folders are named after hosts. */
struct certs_place {
        const char *dir; /* NULL: passed over */
        bool containerd; /* its names for hosts, and hosts.toml */
};

int certs_find_in(
        const struct certs_place *places, size_t count, const char *domain, struct certs *ret_certs, struct error *err);
