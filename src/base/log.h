#pragma once
/**
 * What the folders below mount/ and cli/ may say without failing: debug lines by topic (off unless asked for with
 * --debug=TOPICS) and warnings (the work goes on, but a person should know). Where they go is set once by cli/;
 * without a sink they go nowhere. Secrets never come here. Any thread.
 */
#include <stdbool.h>

enum log_topic {
        LOG_HTTP = 1 << 0,  /* requests, answers, retries */
        LOG_CACHE = 1 << 1, /* the store: hits, publishing, eviction */
        LOG_LAYER = 1 << 2, /* scans, spans */
        LOG_TREE = 1 << 3,  /* merging */
        LOG_FUSE = 1 << 4,  /* what the kernel asks */
        LOG_AUTH = 1 << 5,  /* which credential files were looked at; never what is in them */
        LOG_WARNING = 1 << 30,
        LOG_NOTICE = 1 << 29, /* shown with -v: skipped entries, chosen mirrors */
};

/** Receives one line without a newline. Called from any thread, possibly from several at once. */
typedef void log_sink_fn(enum log_topic topic, const char *line, void *ctx);

/** topics: the enum's bits that are wanted; LOG_WARNING is always on. Call before threads start. */
void log_setup(unsigned topics, log_sink_fn *sink, void *ctx);

bool log_on(enum log_topic topic);
void log_line(enum log_topic topic, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** Is evaluated lazily: the arguments cost nothing when the topic is off. */
#define log_debug(topic, ...)                                                                                          \
        do {                                                                                                           \
                if (log_on(topic))                                                                                     \
                        log_line(topic, __VA_ARGS__);                                                                  \
        } while (0)
#define log_notice(...)  log_debug(LOG_NOTICE, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)

/** Reads "http,cache" or "all" into bits; -EINVAL for an unknown word. */
int log_parse_topics(const char *words, unsigned *ret_topics);
