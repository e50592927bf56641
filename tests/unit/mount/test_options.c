#include <errno.h>

#include "check.h"
#include "mount/options.h"

TEST(empty)
{
        struct options o;
        CHECK_INT(options_parse(&o, NULL, NULL), 0);
        CHECK_STR(buf_str(&o.pass), "");
        CHECK(!o.allow_other && !o.suid && !o.dev && !o.nonempty && !o.default_permissions);
        options_done(&o);
        CHECK_INT(options_parse(&o, ",,", NULL), 0);
        CHECK_STR(buf_str(&o.pass), "");
        options_done(&o);
}

TEST(what_is_passed)
{
        struct options o;
        CHECK_INT(options_parse(
                          &o, "noexec,noatime,fsname=a\\,b,x-systemd.automount,_netdev,nofail,rw,defaults,X-y=z", NULL),
                0);
        CHECK_STR(buf_str(&o.pass), ",noexec,noatime,fsname=a\\,b");
        options_done(&o);
}

TEST(last_word_wins)
{
        struct options o;
        CHECK_INT(options_parse(&o, "suid,dev,nosuid,allow_other,nonempty", NULL), 0);
        CHECK(!o.suid && o.dev && o.allow_other && o.nonempty);
        options_done(&o);
}

TEST(refused)
{
        static const struct {
                const char *text, *says;
        } cases[] = {
                {"nosiud", "unknown mount option -o nosiud"},
                {"ro,foo=bar,rw", "unknown mount option -o foo=bar"},
                {"fsname", "mount option -o fsname needs a value"},
                {"noexec=1", "mount option -o noexec takes no value"},
                {"fd=3", "unknown mount option -o fd=3"},
                {"max_read=1", "unknown mount option -o max_read=1"},
        };
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct options o;
                struct error err = {0};
                CHECK_INT(options_parse(&o, cases[i].text, &err), -EINVAL);
                CHECK_STR(err.msg, cases[i].says);
                options_done(&o);
        }
        char *text = malloc(6001);
        memset(text, 'x', 6000);
        text[6000] = '\0';
        struct options o;
        CHECK_INT(options_parse(&o, text, NULL), -EFBIG);
        options_done(&o);
        free(text);
}
