#pragma once
/**
 * The -o options of a mount, from a command line or /etc/fstab: which the kernel gets, which are for mount(8) only, which
 * cannot be. A plain value; any thread.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

enum { OPTIONS_MAX = 4096 };

struct options {
        bool allow_other, allow_root; /* others than the one who mounts may enter */
        bool default_permissions;     /* the kernel checks modes and owners */
        bool suid, dev;               /* set-user-ID and device files work */
        bool nonempty;                /* mount over whatever is there */
        struct buf pass; /* the rest, ",name[=value]" each, commas in values escaped: for libfuse as it is */
};

/**
 * Parses a comma-separated list ("\," is a comma in a value); NULL is an empty one. -EINVAL: an option that we do not know
 * or do not allow, the message names it; -EFBIG, -ENOMEM. options_done() in any case.
 */
int options_parse(struct options *o, const char *text, struct error *err);
void options_done(struct options *o);
