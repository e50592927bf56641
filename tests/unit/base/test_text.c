/* The small ones: buf, error, log. */
#include "check.h"

#include <errno.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

TEST(a_buf_is_a_c_string_always)
{
        cleanup(buf_donep) struct buf b = {.max = 100};
        CHECK_STR(buf_str(&b), "");
        buf_adds(&b, "one");
        buf_addc(&b, ' ');
        buf_addf(&b, "%d%s", 2, " three");
        buf_add(&b, NULL, 0);
        CHECK_STR(buf_str(&b), "one 2 three");
        CHECK_INT(b.len, 11);
        uint8_t *more = buf_extend(&b, 40);
        CHECK(more && !more[0] && !more[39]);
        CHECK_INT(b.len, 51);
        buf_clear(&b);
        CHECK_STR(buf_str(&b), "");
        size_t len;
        char *taken = buf_take(&b, &len);
        CHECK_STR(taken, "");
        CHECK_INT(len, 0);
        free(taken);
}

TEST(the_ceiling_of_a_buf_sticks)
{
        cleanup(buf_donep) struct buf b = {.max = 10};
        buf_adds(&b, "0123456789");
        CHECK_INT(buf_error(&b), 0);
        buf_addc(&b, 'x');
        CHECK_INT(buf_error(&b), -EFBIG);
        buf_adds(&b, ""); /* not even this */
        CHECK_INT(b.len, 10);
        CHECK(!buf_extend(&b, 0));
        CHECK(!buf_take(&b, NULL));
        buf_clear(&b);
        CHECK_INT(buf_error(&b), 0);
        CHECK(!buf_extend(&b, SIZE_MAX));
        CHECK_INT(buf_error(&b), -EFBIG);
}

TEST(an_error_gets_words_in_front)
{
        struct error e = {0};
        CHECK_INT(error_set(&e, -EIO, "disk %d", 3), -EIO);
        CHECK_INT(error_wrap(&e, -EBADMSG, "layer %s", "x"), -EBADMSG);
        CHECK_STR(e.msg, "layer x: disk 3");
        CHECK_INT(e.code, -EBADMSG);
        CHECK_INT(error_wrap(NULL, -1, "a"), -1);
        CHECK_INT(error_set(NULL, -2, "a"), -2);
        CHECK_INT(error_nomem(&e), -ENOMEM);
}

TEST(long_words_are_cut_at_their_end)
{
        struct error e = {0};
        char text[2000];
        memset(text, 'a', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        error_set(&e, -1, "%s", text);
        CHECK_INT(strlen(e.msg), sizeof e.msg - 1);
        error_wrap(&e, -1, "front");
        CHECK(!strncmp(e.msg, "front: aaa", 10));
        CHECK_INT(strlen(e.msg), sizeof e.msg - 1);
        error_wrap(&e, -1, "%s", text);
        CHECK_INT(strnlen(e.msg, sizeof e.msg), sizeof e.msg - 1);
}

static char last_line[2000];
static int lines;

static void keep_line(enum log_topic topic, const char *line, void *ctx)
{
        CHECK(ctx == &lines && topic);
        lines++;
        snprintf(last_line, sizeof last_line, "%s", line);
}

static int not_evaluated(void)
{
        CHECK_FAIL("the arguments of a line that nobody wants were evaluated");
}

TEST(topics_of_the_log)
{
        unsigned topics = 99;
        CHECK_INT(log_parse_topics("http,cache", &topics), 0);
        CHECK_INT(topics, LOG_HTTP | LOG_CACHE);
        CHECK_INT(log_parse_topics("", &topics), 0);
        CHECK_INT(topics, 0);
        CHECK_INT(log_parse_topics("all", &topics), 0);
        CHECK(topics & LOG_FUSE && topics & LOG_NOTICE);
        CHECK_INT(log_parse_topics("htt", &topics), -EINVAL);
        CHECK_INT(log_parse_topics("http,,cache", &topics), -EINVAL);

        log_warning("nobody listens");
        log_setup(LOG_HTTP, keep_line, &lines);
        CHECK(log_on(LOG_HTTP) && log_on(LOG_WARNING) && !log_on(LOG_CACHE));
        log_debug(LOG_CACHE, "%d", not_evaluated());
        CHECK_INT(lines, 0);
        log_debug(LOG_HTTP, "GET %s", "/v2/");
        CHECK_STR(last_line, "GET /v2/");
        log_warning("%02000d", 1);
        CHECK_INT(lines, 2);
        CHECK(strlen(last_line) < 1000);
        log_setup(0, NULL, NULL);
}
