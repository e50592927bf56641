/* How: one global sink set before any thread starts; a line is formatted on the stack and handed over. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static unsigned wanted = LOG_WARNING;
static log_sink_fn *sink_fn;
static void *sink_ctx;

void log_setup(unsigned topics, log_sink_fn *sink, void *ctx)
{
        wanted = topics | LOG_WARNING;
        sink_fn = sink;
        sink_ctx = ctx;
}

bool log_on(enum log_topic topic)
{
        return sink_fn && (wanted & (unsigned)topic);
}

void log_line(enum log_topic topic, const char *fmt, ...)
{
        if (!log_on(topic))
                return;
        char line[1000];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(line, sizeof line, fmt, ap);
        va_end(ap);
        sink_fn(topic, line, sink_ctx);
}

int log_parse_topics(const char *words, unsigned *ret_topics)
{
        static const struct {
                const char *word;
                unsigned bits;
        } topics[] = {
                {"http", LOG_HTTP},
                {"cache", LOG_CACHE},
                {"layer", LOG_LAYER},
                {"tree", LOG_TREE},
                {"fuse", LOG_FUSE},
                {"auth", LOG_AUTH},
                {"all", LOG_HTTP | LOG_CACHE | LOG_LAYER | LOG_TREE | LOG_FUSE | LOG_AUTH | LOG_NOTICE},
        };
        unsigned bits = 0;
        while (*words) {
                size_t len = strcspn(words, ",");
                size_t i = 0;
                while (i < ARRAY_LEN(topics) && (strlen(topics[i].word) != len || memcmp(topics[i].word, words, len)))
                        i++;
                if (i == ARRAY_LEN(topics))
                        return -EINVAL;
                bits |= topics[i].bits;
                words += len + (words[len] == ',');
        }
        *ret_topics = bits;
        return 0;
}
