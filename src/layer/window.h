#pragma once
/**
 * Windows on disk (docs/FORMAT.md, WINDOWS): what spans refer to, deflated some 64 KiB at a time. No state but the packer's: any thread.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

struct window_packer;

/** Keeps the compressor's memory between calls; one thread at a time. NULL when out of memory. */
struct window_packer *window_packer_new(void);
void window_packer_free(struct window_packer *p);
DEFINE_CLEANUP(struct window_packer, window_packer_free);

/** Appends the packed form of data[0, len). 0, -ENOMEM, -EFBIG (out's ceiling). */
int window_pack(struct window_packer *p, const uint8_t *data, size_t len, struct buf *out);

/** Fills data[0, len) from its packed form. -EBADMSG when it does not give exactly that. */
int window_unpack(const uint8_t *packed, size_t packed_len, uint8_t *data, size_t len, struct error *err);
