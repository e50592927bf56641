/* How: a table of words. What mount(8), fstab and mount.fuse3 say to every file system is passed or ignored; a word that
 * is not in the table is an error, as a misspelt "nosuid" must not be taken for one. "rw" is ignored because mount(8)
 * gives it to every helper; the mount is read-only whatever is asked. */
#include "mount/options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/mem.h"

enum kind { IGNORE, PASS, VALUE, SET, CLEAR };

static const struct word {
        const char *name;
        enum kind kind;
        size_t flag; /* offset of the bool that SET and CLEAR change */
} words[] = {
        {"allow_other", SET, offsetof(struct options, allow_other)},
        {"allow_root", SET, offsetof(struct options, allow_root)},
        {"default_permissions", SET, offsetof(struct options, default_permissions)},
        {"suid", SET, offsetof(struct options, suid)},
        {"nosuid", CLEAR, offsetof(struct options, suid)},
        {"dev", SET, offsetof(struct options, dev)},
        {"nodev", CLEAR, offsetof(struct options, dev)},
        {"nonempty", SET, offsetof(struct options, nonempty)},
        {"exec", PASS, 0},
        {"noexec", PASS, 0},
        {"atime", PASS, 0},
        {"noatime", PASS, 0},
        {"sync", PASS, 0},
        {"async", PASS, 0},
        {"dirsync", PASS, 0},
        {"auto_unmount", PASS, 0},
        {"fsname", VALUE, 0},
        {"subtype", VALUE, 0},
        {"context", VALUE, 0},
        {"fscontext", VALUE, 0},
        {"defcontext", VALUE, 0},
        {"rootcontext", VALUE, 0},
        /* for mount(8), systemd and the like; or true of every mount that we make */
        {"defaults", IGNORE, 0},
        {"ro", IGNORE, 0},
        {"rw", IGNORE, 0},
        {"auto", IGNORE, 0},
        {"noauto", IGNORE, 0},
        {"user", IGNORE, 0},
        {"nouser", IGNORE, 0},
        {"users", IGNORE, 0},
        {"owner", IGNORE, 0},
        {"group", IGNORE, 0},
        {"nofail", IGNORE, 0},
        {"_netdev", IGNORE, 0},
        {"diratime", IGNORE, 0},
        {"nodiratime", IGNORE, 0},
        {"relatime", IGNORE, 0},
        {"norelatime", IGNORE, 0},
        {"strictatime", IGNORE, 0},
        {"nostrictatime", IGNORE, 0},
        {"lazytime", IGNORE, 0},
        {"nolazytime", IGNORE, 0},
        {"silent", IGNORE, 0},
        {"loud", IGNORE, 0},
        {"comment", IGNORE, 0},
};

/* End of the option at text: a comma that no backslash protects, or the end of all. */
static size_t option_len(const char *text)
{
        size_t n = 0;
        while (text[n] && text[n] != ',')
                n += text[n] == '\\' && text[n + 1] ? 2 : 1;
        return n;
}

static const struct word *find_word(const char *text, size_t len)
{
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
                if (strlen(words[i].name) == len && memcmp(words[i].name, text, len) == 0)
                        return &words[i];
        return NULL;
}

static int take_option(struct options *o, const char *text, size_t len, struct error *err)
{
        if (len >= 2 && (memcmp(text, "x-", 2) == 0 || memcmp(text, "X-", 2) == 0))
                return 0;
        const char *equals = memchr(text, '=', len);
        size_t name_len = equals ? (size_t)(equals - text) : len;
        const struct word *word = find_word(text, name_len);
        if (!word)
                return error_set(err, -EINVAL, "unknown mount option -o %.*s", (int)MIN(len, (size_t)200), text);
        if (word->kind == IGNORE)
                return 0;
        if (!equals == (word->kind == VALUE))
                return error_set(
                        err, -EINVAL, "mount option -o %s %s", word->name, equals ? "takes no value" : "needs a value");
        if (word->kind == SET || word->kind == CLEAR) {
                bool value = word->kind == SET;
                memcpy((char *)o + word->flag, &value, sizeof value);
                return 0;
        }
        buf_addc(&o->pass, ',');
        buf_add(&o->pass, text, len);
        return 0;
}

int options_parse(struct options *o, const char *text, struct error *err)
{
        *o = (struct options){0};
        buf_init(&o->pass, OPTIONS_MAX);
        if (text && strlen(text) > OPTIONS_MAX)
                return error_set(err, -EFBIG, "the mount options are longer than %d bytes", OPTIONS_MAX);
        while (text && *text) {
                size_t len = option_len(text);
                int r = len ? take_option(o, text, len, err) : 0;
                if (r < 0)
                        return r;
                text += len + (text[len] == ',');
        }
        return buf_error(&o->pass) ? error_nomem(err) : 0;
}

void options_done(struct options *o)
{
        buf_done(&o->pass);
}
