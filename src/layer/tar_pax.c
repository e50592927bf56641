/*
 * The records of a pax extended header, "LEN KEY=VALUE\n" with LEN counting the whole record. They are parsed where they
 * lie: values stay spans of the text, and only the '=' behind an attribute's name becomes a NUL.
 *
 * Syntax is checked here for every record, known or not; the values themselves only when a file's header has followed
 * (tar_pax_apply), because the last record of a key wins and what is never used may be nonsense. That is also what Go's
 * reader, the measure of what is malformed, does.
 */
#include "layer/tar_internal.h"

#include <errno.h>
#include <string.h>

#define KEY(text)                                                                                                      \
        {                                                                                                              \
                text, sizeof text - 1                                                                                  \
        }
static const struct {
        const char *text;
        size_t len;
} keys[PAX_KEYS] = {
        [PAX_PATH] = KEY("path"),
        [PAX_LINKPATH] = KEY("linkpath"),
        [PAX_UNAME] = KEY("uname"),
        [PAX_GNAME] = KEY("gname"),
        [PAX_SIZE] = KEY("size"),
        [PAX_UID] = KEY("uid"),
        [PAX_GID] = KEY("gid"),
        [PAX_MTIME] = KEY("mtime"),
        [PAX_ATIME] = KEY("atime"),
        [PAX_CTIME] = KEY("ctime"),
        [PAX_SPARSE_MAJOR] = KEY("GNU.sparse.major"),
        [PAX_SPARSE_MINOR] = KEY("GNU.sparse.minor"),
        [PAX_SPARSE_NAME] = KEY("GNU.sparse.name"),
        [PAX_SPARSE_SIZE] = KEY("GNU.sparse.size"),
        [PAX_SPARSE_REALSIZE] = KEY("GNU.sparse.realsize"),
        [PAX_SPARSE_NUMBLOCKS] = KEY("GNU.sparse.numblocks"),
        [PAX_SPARSE_MAP] = KEY("GNU.sparse.map"),
        [PAX_SPARSE_OFFSET] = KEY("GNU.sparse.offset"),
        [PAX_SPARSE_NUMBYTES] = KEY("GNU.sparse.numbytes"),
};

static const char xattr_prefix[] = "SCHILY.xattr.";

struct record {
        char *key; /* key[key_len] is the '=' */
        size_t key_len;
        struct tar_span value;
};

void tar_pax_init(struct tar_pax *p)
{
        memset(p, 0, sizeof *p);
        buf_init(&p->text, TAR_META_MAX);
        buf_init(&p->map, TAR_META_MAX);
}

void tar_pax_done(struct tar_pax *p)
{
        buf_done(&p->text);
        buf_done(&p->map);
}

void tar_pax_reset(struct tar_pax *p)
{
        if (!p->used)
                return;
        buf_clear(&p->text);
        buf_clear(&p->map);
        memset(p->value, 0, sizeof p->value);
        p->xattr_count = 0;
        p->dropped_xattrs = 0;
        p->used = false;
}

/* The record at text[*off], which is stepped over. NULL, or what is wrong with it. */
static const char *next_record(char *text, size_t len, size_t *off, struct record *ret)
{
        char *start = text + *off;
        size_t left = len - *off;
        char *space = memchr(start, ' ', left);
        int64_t n;
        if (!space || !tar_decimal((struct tar_span){start, (size_t)(space - start)}, &n))
                return "pax record without a length";
        if (n < 5 || (uint64_t)n > left)
                return "pax record with a wrong length";
        char *end = start + n - 1; /* its newline, so behind the space */
        if (*end != '\n')
                return "pax record that does not end where its length says";
        ret->key = space + 1;
        char *equals = memchr(ret->key, '=', (size_t)(end - ret->key));
        if (!equals || equals == ret->key)
                return "pax record without a key";
        ret->key_len = (size_t)(equals - ret->key);
        ret->value = (struct tar_span){equals + 1, (size_t)(end - equals - 1)};
        if (memchr(ret->key, '\0', ret->key_len))
                return "pax record with a NUL in its key";
        *off += (size_t)n;
        return NULL;
}

static enum tar_pax_key key_of(const struct record *r)
{
        unsigned k = 0;
        while (k < PAX_KEYS && (keys[k].len != r->key_len || memcmp(keys[k].text, r->key, r->key_len) != 0))
                k++;
        return k;
}

/* Host labels, and attributes that only the writer's kernel may see, are left out (spec: what engines drop). */
static bool xattr_wanted(const char *name, size_t value_len)
{
        size_t len = strlen(name);
        if (len == 0 || len > TAR_NAME_MAX || value_len > TAR_XATTR_MAX)
                return false;
        return strncmp(name, "trusted.", 8) != 0 && strcmp(name, "security.selinux") != 0;
}

/* So that a header full of attributes is not compared name by name with hundreds of others (FNV-1a). */
static uint32_t hash_name(const char *name)
{
        uint32_t hash = 2166136261;
        for (; *name; name++)
                hash = (hash ^ (uint8_t)*name) * 16777619;
        return hash;
}

static void add_xattr(struct tar_pax *p, const struct record *r)
{
        r->key[r->key_len] = '\0';
        struct tar_xattr x = {
                .name = r->key + sizeof xattr_prefix - 1,
                .value = r->value.p,
                .value_len = (uint32_t)r->value.len,
        };
        if (!xattr_wanted(x.name, r->value.len)) {
                p->dropped_xattrs++;
                return;
        }
        uint32_t hash = hash_name(x.name);
        size_t i = 0;
        while (i < p->xattr_count && (p->xattr_hash[i] != hash || strcmp(p->xattrs[i].name, x.name) != 0))
                i++;
        if (i == TAR_XATTRS_MAX) {
                p->dropped_xattrs++;
                return;
        }
        p->xattrs[i] = x;
        p->xattr_hash[i] = hash;
        if (i == p->xattr_count)
                p->xattr_count++;
}

/* Format 0.0 repeats two keys by turns; as text "off,len,off,len" it is a 0.1 map. */
static const char *add_map_value(struct tar_pax *p, enum tar_pax_key key, struct tar_span value, unsigned *turn)
{
        if (key != (*turn % 2 ? PAX_SPARSE_NUMBYTES : PAX_SPARSE_OFFSET))
                return "pax sparse offsets and lengths not by turns";
        if (value.len > 0 && memchr(value.p, ',', value.len))
                return "pax sparse offset or length with a comma";
        if ((*turn)++ > 0)
                buf_addc(&p->map, ',');
        buf_add(&p->map, value.p, value.len);
        return NULL;
}

static const char *add_record(struct tar_pax *p, const struct record *r, unsigned *turn)
{
        enum tar_pax_key key = key_of(r);
        if (key == PAX_SPARSE_OFFSET || key == PAX_SPARSE_NUMBYTES)
                return add_map_value(p, key, r->value, turn);
        if (key <= PAX_GNAME && r->value.len > 0 && memchr(r->value.p, '\0', r->value.len))
                return "pax name with a NUL";
        if (key < PAX_KEYS)
                p->value[key] = r->value;
        else if (r->key_len >= sizeof xattr_prefix - 1 && memcmp(r->key, xattr_prefix, sizeof xattr_prefix - 1) == 0)
                add_xattr(p, r);
        return NULL;
}

int tar_pax_parse(struct tar_pax *p, const char **ret_what)
{
        const char *what = NULL;
        unsigned turn = 0;
        p->used = true;
        for (size_t off = 0; off < p->text.len && !what;) {
                struct record r;
                what = next_record(p->text.data, p->text.len, &off, &r);
                if (!what)
                        what = add_record(p, &r, &turn);
        }
        if (what) {
                *ret_what = what;
                return -EBADMSG;
        }
        if (turn > 0)
                p->value[PAX_SPARSE_MAP] = (struct tar_span){buf_str(&p->map), p->map.len};
        return buf_error(&p->map);
}

/* Decimal seconds with a fraction, of which nanoseconds are kept; -0.5 is half a second before 1970. */
static bool parse_time(struct tar_span text, int64_t *ret_s, uint32_t *ret_ns, bool *ret_clamped)
{
        const char *dot = memchr(text.p, '.', text.len);
        size_t whole = dot ? (size_t)(dot - text.p) : text.len;
        int64_t s;
        if (!tar_decimal((struct tar_span){text.p, whole}, &s))
                return false;
        uint32_t ns = 0, unit = 100000000;
        for (size_t i = whole + 1; i < text.len; i++) {
                if (text.p[i] < '0' || text.p[i] > '9')
                        return false;
                ns += (uint32_t)(text.p[i] - '0') * unit;
                unit /= 10;
        }
        if (text.p[0] == '-' && ns > 0) {
                if (s == INT64_MIN) {
                        *ret_clamped = true;
                        ns = 0;
                } else {
                        s--;
                        ns = 1000000000 - ns;
                }
        }
        *ret_s = s;
        *ret_ns = ns;
        return true;
}

const char *tar_pax_apply(const struct tar_pax *p, struct tar_header *h, uint32_t *ret_ns, bool *ret_clamped)
{
        const struct tar_span *v = p->value;
        int64_t s;
        uint32_t ns;
        bool clamped;
        *ret_ns = 0;
        *ret_clamped = false;
        if (v[PAX_SIZE].len > 0 && !tar_decimal(v[PAX_SIZE], &h->size))
                return "malformed pax size";
        if (v[PAX_UID].len > 0 && !tar_decimal(v[PAX_UID], &h->uid))
                return "malformed pax owner";
        if (v[PAX_GID].len > 0 && !tar_decimal(v[PAX_GID], &h->gid))
                return "malformed pax group";
        if (v[PAX_MTIME].len > 0 && !parse_time(v[PAX_MTIME], &h->mtime, ret_ns, ret_clamped))
                return "malformed pax modification time";
        if (v[PAX_ATIME].len > 0 && !parse_time(v[PAX_ATIME], &s, &ns, &clamped))
                return "malformed pax access time";
        if (v[PAX_CTIME].len > 0 && !parse_time(v[PAX_CTIME], &s, &ns, &clamped))
                return "malformed pax change time";
        return NULL;
}
