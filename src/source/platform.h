#pragma once
/**
 * Platforms: operating system, architecture and variant in Go's words (image-spec image-index.md, config.md), with the
 * other spellings that people and builders use folded into them, and the order in which one may stand in for another.
 * A struct platform is a plain value.
 */
#include "base/error.h"

enum { PLATFORM_WORD_MAX = 31 };

struct platform {
        char os[32], architecture[32], variant[32]; /* normalized; variant may be "" */
};

/** Reads "os/arch[/variant]", "arch[/variant]" or "os"; what is not said is this machine's. -EINVAL. */
int platform_parse(const char *text, struct platform *ret_platform, struct error *err);

/** From three words, each may be NULL or "": normalized; too long ones are cut, and then match nothing. */
void platform_set(struct platform *p, const char *os, const char *architecture, const char *variant);

/** This machine's. */
void platform_host(struct platform *ret_platform);

/** "linux/arm64/v8"; borrowed from text. */
const char *platform_format(const struct platform *p, char text[100]);

/** How well an image for `have` serves somebody who wants `want`: 0 is exact, larger is worse, -1 not at all. */
int platform_rank(const struct platform *want, const struct platform *have);
