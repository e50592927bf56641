#pragma once
/**
 * Credential helpers: programs "docker-credential-SUFFIX" that keep passwords elsewhere (docker/docker-credential-helpers).
 * Plain function, any thread; it waits for the program.
 */
#include "base/error.h"
#include "source/credentials.h"

enum { HELPER_LIMIT_MS = 30000, HELPER_OUTPUT_MAX = 1 << 20 };

/**
 * Asks for the credentials of a server, as it is written in configuration files ("ghcr.io", "https://index.docker.io/v1/").
 * 1: found; 0: the helper has none; -ENOENT: there is no such program; -EACCES: it failed, or took longer than limit_ms.
 */
int helper_get(const char *suffix, const char *server, unsigned limit_ms, struct credentials *ret_credentials,
        struct error *err);
