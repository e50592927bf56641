#pragma once
/** Private to registries.c and its tests: the same with other folders than the machine's. */
#include "source/registries.h"

/** Folders that hold registries.conf and registries.conf.d, the least important first ("/usr/share/containers" ...). */
int registries_load_dirs(const char *const *dirs, size_t count, struct registries **ret_registries, struct error *err);

/** One document's text, as if it were the only file; for fuzzing. */
int registries_load_text(const char *text, size_t len, struct registries **ret_registries, struct error *err);

/** docker's daemon.json (dockerd.h) beside it. */
int registries_add_docker(struct registries *r, const char *text, size_t len, struct error *err);
