#pragma once
/**
 * A tree, as the kernel asks for it: one function a request, over libfuse's low-level interface. The inode numbers on the
 * wire are the tree's own, so that nothing is allocated for a look-up and nothing has to be forgotten.
 *
 * The tree never changes: every answer may be kept for ever, "no such name" included, and the kernel is told so.
 * Serves from any number of threads; a server's only state is counters.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

/** What is counted; fuse_server_names has the words. */
enum fuse_count {
        FUSE_COUNT_LOOKUP,
        FUSE_COUNT_GETATTR,
        FUSE_COUNT_READLINK,
        FUSE_COUNT_OPEN,
        FUSE_COUNT_READ,
        FUSE_COUNT_OPENDIR,
        FUSE_COUNT_READDIR,
        FUSE_COUNT_READDIRPLUS,
        FUSE_COUNT_GETXATTR,
        FUSE_COUNT_LISTXATTR,
        FUSE_COUNT_STATFS,
        FUSE_COUNT_FORGET,
        FUSE_COUNT_REFUSED, /* requests that would change something */
        FUSE_COUNTS,
};

struct fuse_server {
        struct image *image;       /* borrowed; counts the errors */
        const struct tree *tree;   /* image_tree(image) */
        bool checks;               /* the kernel checks permissions: then it can enforce ACLs */
        bool has_acls, has_labels; /* some inode has a POSIX ACL, a security.selinux attribute */
        void (*ready)(void *ctx);  /* called once, when the kernel's first message was answered; may be NULL */
        void *ready_ctx;
        atomic_bool no_open, no_opendir; /* set by the first message: the kernel stops asking when told ENOSYS */
        _Atomic uint64_t count[FUSE_COUNTS];
        _Atomic int64_t warned_s;       /* when the last failed read was logged (monotonic seconds) */
        _Atomic uint64_t warnings_held; /* failed reads since then that were not logged */
};

/** image is borrowed and must outlive the session that serves it. */
void fuse_server_init(struct fuse_server *server, struct image *image);

/** For fuse_session_new(), with a struct fuse_server as the user data. */
extern const struct fuse_lowlevel_ops fuse_server_ops;

/** The counters as a JSON object, free() it; NULL when out of memory. */
char *fuse_server_counts(const struct fuse_server *server);
