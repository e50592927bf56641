/*
 * How: one pass over the text by recursive descent. That the text is UTF-8 without control characters is checked before, so
 * that '\0' can stand for "the end" everywhere behind that check.
 *
 * TOML's hard part is not the syntax but who may add to a table later. Each table remembers what made it:
 *
 *   made by                          [header] may name it    headers may pass    dotted keys may pass
 *   IMPLICIT  a header's path        once, becomes HEADER    yes                 no
 *   HEADER    [header], [[header]]   no                      yes                 no
 *   DOTTED    a dotted key's path    no                      yes                 yes
 *   INLINE    { ... }                no                      no                  no
 *
 * Whether a key is there already is asked of one hash table for the whole document, keyed by the table's number and the
 * key, so that a file of many keys costs no quadratic time.
 */
#include "source/toml.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"

enum how { HOW_NONE, HOW_IMPLICIT, HOW_HEADER, HOW_DOTTED, HOW_INLINE, HOW_ARRAY_OF_TABLES };

struct toml {
        struct arena arena;
        struct toml_value root;
};

struct parser {
        const char *p, *end;
        unsigned line;
        unsigned tables; /* numbers given to tables */
        struct toml *doc;
        struct map known;   /* table number and key -> struct toml_value */
        struct buf scratch; /* the string that is being read */
        struct error *err;
};

__attribute__((format(printf, 2, 3))) static int fail(struct parser *s, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        error_setv(s->err, -EINVAL, fmt, ap);
        va_end(ap);
        return error_wrap(s->err, -EINVAL, "line %u", s->line);
}

static char peek_at(const struct parser *s, size_t off)
{
        return (size_t)(s->end - s->p) > off ? s->p[off] : '\0';
}

static char peek(const struct parser *s)
{
        return peek_at(s, 0);
}

static bool eat(struct parser *s, char c)
{
        if (peek(s) != c)
                return false;
        s->p++;
        return true;
}

static bool eat_word(struct parser *s, const char *word)
{
        size_t len = strlen(word);
        if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
                return false;
        s->p += len;
        return true;
}

/* ---- the text as a whole ---- */

/* length of the UTF-8 sequence at p, 0 when there is none (RFC 3629: no surrogates, nothing overlong) */
static size_t utf8_len(const unsigned char *p, size_t len)
{
        if (p[0] < 0x80)
                return 1;
        size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
        if (p[0] < 0xc2 || p[0] > 0xf4 || n > len)
                return 0;
        unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
        unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
        if (p[1] < low || p[1] > high)
                return 0;
        for (size_t i = 2; i < n; i++)
                if (p[i] < 0x80 || p[i] > 0xbf)
                        return 0;
        return n;
}

static int check_text(struct parser *s)
{
        const unsigned char *p = (const unsigned char *)s->p, *end = (const unsigned char *)s->end;
        while (p < end) {
                size_t n = utf8_len(p, (size_t)(end - p));
                if (!n)
                        return fail(s, "not UTF-8");
                bool newline = *p == '\n' || (*p == '\r' && end - p > 1 && p[1] == '\n');
                if ((*p < 0x20 && *p != '\t' && !newline) || *p == 0x7f)
                        return fail(s, "a control character (0x%02x)", *p);
                if (*p == '\n')
                        s->line++;
                p += n;
        }
        s->line = 1;
        return 0;
}

static void skip_blanks(struct parser *s)
{
        while (peek(s) == ' ' || peek(s) == '\t')
                s->p++;
}

static void skip_comment(struct parser *s)
{
        if (peek(s) != '#')
                return;
        while (s->p < s->end && *s->p != '\n')
                s->p++;
}

static bool eat_newline(struct parser *s)
{
        if (peek(s) == '\r')
                s->p++; /* a '\n' follows: check_text() */
        if (!eat(s, '\n'))
                return false;
        s->line++;
        return true;
}

static void skip_lines(struct parser *s)
{
        do {
                skip_blanks(s);
                skip_comment(s);
        } while (eat_newline(s));
}

static int end_of_line(struct parser *s)
{
        skip_blanks(s);
        skip_comment(s);
        if (s->p == s->end || eat_newline(s))
                return 0;
        return fail(s, "something stands behind the value where the line should end");
}

/* ---- strings and keys ---- */

static int put_codepoint(struct parser *s, unsigned digits)
{
        uint32_t c = 0;
        for (unsigned i = 0; i < digits; i++) {
                char h = peek(s);
                int value = h >= '0' && h <= '9'   ? h - '0'
                            : h >= 'a' && h <= 'f' ? h - 'a' + 10
                            : h >= 'A' && h <= 'F' ? h - 'A' + 10
                                                   : -1;
                if (value < 0)
                        return fail(s, "%u hexadecimal digits belong behind the \\u", digits);
                c = c << 4 | (uint32_t)value;
                s->p++;
        }
        if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return fail(s, "a \\u sequence names no character that may stand in a string");
        if (c < 0x80) {
                buf_addc(&s->scratch, (char)c);
                return 0;
        }
        unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
        buf_addc(&s->scratch, (char)(lead[more] | c >> 6 * more));
        while (more-- > 0)
                buf_addc(&s->scratch, (char)(0x80 | (c >> 6 * more & 0x3f)));
        return 0;
}

/* behind a backslash */
static int put_escape(struct parser *s, bool multi_line)
{
        static const char codes[] = "btnfr\"\\", meant[] = "\b\t\n\f\r\"\\";
        char c = peek(s);
        const char *code = c ? strchr(codes, c) : NULL;
        if (code) {
                s->p++;
                buf_addc(&s->scratch, meant[code - codes]);
                return 0;
        }
        if (c == 'u' || c == 'U') {
                s->p++;
                return put_codepoint(s, c == 'u' ? 4 : 8);
        }
        if (multi_line) { /* at a line's end: joins it with the next text */
                const char *start = s->p;
                skip_blanks(s);
                if (eat_newline(s)) {
                        do
                                skip_blanks(s);
                        while (eat_newline(s));
                        return 0;
                }
                s->p = start;
        }
        return fail(s, "an unknown escape sequence behind a backslash (use '...' for text with backslashes)");
}

/* the end of a multi-line string: three quotes, before which one or two more belong to the text */
static bool eat_triple(struct parser *s, char quote)
{
        if (peek(s) != quote || peek_at(s, 1) != quote || peek_at(s, 2) != quote)
                return false;
        if (peek_at(s, 3) == quote) {
                size_t extra = peek_at(s, 4) == quote ? 2 : 1;
                buf_add(&s->scratch, s->p, extra);
                s->p += extra;
        }
        s->p += 3;
        return true;
}

/* any of the four kinds, from its first quote; the text is in scratch */
static int read_string(struct parser *s, bool may_be_multi_line)
{
        char quote = *s->p++;
        bool basic = quote == '"', multi_line = false;
        unsigned start = s->line;
        buf_clear(&s->scratch);
        if (peek(s) == quote && peek_at(s, 1) == quote) {
                if (!may_be_multi_line)
                        return fail(s, "a key must not be a string of several lines");
                multi_line = true;
                s->p += 2;
                eat_newline(s);
        }
        for (;;) {
                if (s->p == s->end || (!multi_line && (peek(s) == '\n' || peek(s) == '\r')))
                        break;
                if (multi_line ? eat_triple(s, quote) : eat(s, quote))
                        return buf_error(&s->scratch) ? error_nomem(s->err) : 0;
                if (basic && eat(s, '\\')) {
                        int r = put_escape(s, multi_line);
                        if (r < 0)
                                return r;
                } else if (multi_line && eat_newline(s)) {
                        buf_addc(&s->scratch, '\n');
                } else {
                        buf_addc(&s->scratch, *s->p++);
                }
        }
        s->line = start;
        return fail(s, "the closing %s of a string is missing", multi_line ? "three quotes" : "quote");
}

static bool is_bare(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* one part of a key; the text is in scratch */
static int read_key_part(struct parser *s)
{
        if (peek(s) == '"' || peek(s) == '\'')
                return read_string(s, false);
        const char *start = s->p;
        while (is_bare(peek(s)))
                s->p++;
        if (s->p == start)
                return fail(s, "a key is missing");
        buf_clear(&s->scratch);
        buf_add(&s->scratch, start, (size_t)(s->p - start));
        return buf_error(&s->scratch) ? error_nomem(s->err) : 0;
}

/* ---- values in tables ---- */

static struct toml_value *new_value(struct parser *s, enum toml_type type)
{
        struct toml_value *v = arena_alloc(&s->doc->arena, sizeof *v);
        if (!v) {
                error_nomem(s->err);
                return NULL;
        }
        v->type = type;
        v->line = s->line;
        if (type == TOML_TABLE)
                v->id = ++s->tables;
        return v;
}

static void append(struct toml_value *parent, struct toml_value *v)
{
        if (parent->last)
                parent->last->next = v;
        else
                parent->first = v;
        parent->last = v;
}

/* The hash table's key for scratch's text in the table: number, then text. Lives in the arena; NULL: out of memory. */
static const char *name_of(struct parser *s, const struct toml_value *table, size_t *ret_len)
{
        size_t len = sizeof table->id + s->scratch.len;
        char *name = arena_alloc(&s->doc->arena, len + 1);
        if (!name) {
                error_nomem(s->err);
                return NULL;
        }
        memcpy(name, &table->id, sizeof table->id);
        memcpy(name + sizeof table->id, buf_str(&s->scratch), s->scratch.len + 1);
        *ret_len = len;
        return name;
}

/* The value of scratch's text in the table. When there is none and type is a table or an array, makes one. */
static int find_or_add(struct parser *s, struct toml_value *table, enum toml_type type, enum how how,
        struct toml_value **ret_value, bool *ret_new)
{
        size_t len;
        const char *name = name_of(s, table, &len);
        if (!name)
                return -ENOMEM;
        uint64_t *slot = map_find(&s->known, name, len);
        *ret_new = !slot;
        if (slot) {
                *ret_value = (struct toml_value *)(uintptr_t)*slot;
                return 0;
        }
        struct toml_value *v = new_value(s, type);
        if (!v)
                return -ENOMEM;
        if (map_put(&s->known, name, len, (uintptr_t)v) < 0)
                return error_nomem(s->err);
        v->key = name + sizeof table->id;
        v->how = (unsigned char)how;
        append(table, v);
        *ret_value = v;
        return 0;
}

static int read_value(struct parser *s, struct toml_value *v, unsigned depth);

/* key = value, into the table */
static int read_pair(struct parser *s, struct toml_value *table, unsigned depth)
{
        bool new;
        for (unsigned parts = 1;; parts++) {
                struct toml_value *v;
                if (parts > TOML_MAX_DEPTH)
                        return fail(s, "a key of more than %d parts", TOML_MAX_DEPTH);
                int r = read_key_part(s);
                if (r < 0)
                        return r;
                skip_blanks(s);
                bool dotted = eat(s, '.');
                r = find_or_add(s, table, dotted ? TOML_TABLE : TOML_OTHER, dotted ? HOW_DOTTED : HOW_NONE, &v, &new);
                if (r < 0)
                        return r;
                if (!new && (!dotted || v->type != TOML_TABLE || v->how != HOW_DOTTED))
                        return fail(s, "the key \"%.100s\" is there already (line %u)", v->key, v->line);
                skip_blanks(s);
                if (dotted) {
                        table = v;
                        continue;
                }
                if (!eat(s, '='))
                        return fail(s, "a '=' is missing behind \"%.100s\"", v->key);
                skip_blanks(s);
                return read_value(s, v, depth);
        }
}

static int read_array(struct parser *s, struct toml_value *array, unsigned depth)
{
        for (;;) {
                skip_lines(s);
                if (eat(s, ']'))
                        return 0;
                struct toml_value *v = new_value(s, TOML_OTHER);
                if (!v)
                        return -ENOMEM;
                int r = read_value(s, v, depth);
                if (r < 0)
                        return r;
                append(array, v);
                skip_lines(s);
                if (!eat(s, ',') && peek(s) != ']')
                        return fail(s, "a ',' or ']' is missing in the list of line %u", array->line);
        }
}

static int read_inline_table(struct parser *s, struct toml_value *table, unsigned depth)
{
        skip_blanks(s);
        if (eat(s, '}'))
                return 0;
        for (;;) {
                skip_blanks(s);
                int r = read_pair(s, table, depth);
                if (r < 0)
                        return r;
                skip_blanks(s);
                if (eat(s, '}'))
                        return 0;
                if (!eat(s, ','))
                        return fail(s, "a ',' or '}' is missing in a table in braces (it must stand in one line)");
        }
}

/* digits with single '_' between them; false: not a number of that base, or too large */
static bool read_digits(const char *p, size_t len, int base, bool negative, int64_t *ret)
{
        int64_t value = 0;
        bool digit = false;
        for (size_t i = 0; i < len; i++) {
                if (p[i] == '_' && digit && i + 1 < len) {
                        digit = false;
                        continue;
                }
                int d = p[i] >= '0' && p[i] <= '9'   ? p[i] - '0'
                        : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10
                        : p[i] >= 'A' && p[i] <= 'F' ? p[i] - 'A' + 10
                                                     : 99;
                if (d >= base || !mul_ok(value, base, &value) || !add_ok(value, negative ? -d : d, &value))
                        return false;
                digit = true;
        }
        *ret = value;
        return digit;
}

static bool is_integer(const char *p, size_t len, int64_t *ret)
{
        if (len > 2 && p[0] == '0' && (p[1] == 'x' || p[1] == 'o' || p[1] == 'b'))
                return read_digits(p + 2, len - 2, p[1] == 'x' ? 16 : p[1] == 'o' ? 8 : 2, false, ret);
        bool sign = len && (*p == '+' || *p == '-');
        size_t digits = len - sign;
        if (digits > 1 && p[sign] == '0')
                return false;
        return read_digits(p + sign, digits, 10, sign && *p == '-', ret);
}

/* How much of p the pattern covers, 0 when it does not fit: '9' is any digit, other characters are meant. */
static size_t pattern_len(const char *p, size_t len, const char *pattern)
{
        size_t i = 0;
        for (; pattern[i]; i++)
                if (i == len || (pattern[i] == '9' ? p[i] < '0' || p[i] > '9' : (p[i] | 0x20) != (pattern[i] | 0x20)))
                        return 0;
        return i;
}

/* a date, a time, or both with an offset (RFC 3339); whether there is such a day is not asked */
static bool is_date(const char *p, size_t len)
{
        size_t date = pattern_len(p, len, "9999-99-99");
        if (date && date == len)
                return true;
        size_t mark = date && (p[date] == 'T' || p[date] == 't' || p[date] == ' ');
        size_t n = date + mark;
        size_t clock = pattern_len(p + n, len - n, "99:99:99");
        if (!clock || (date && !mark))
                return false;
        n += clock;
        if (n + 1 < len && p[n] == '.' && p[n + 1] >= '0' && p[n + 1] <= '9')
                for (n++; n < len && p[n] >= '0' && p[n] <= '9';)
                        n++;
        if (!date || n == len)
                return n == len;
        return n + pattern_len(p + n, len - n, "z") == len || n + pattern_len(p + n, len - n, "+99:99") == len ||
               n + pattern_len(p + n, len - n, "-99:99") == len;
}

/* how many digits with single '_' between them p begins with */
static size_t digits_len(const char *p, size_t len)
{
        size_t i = 0;
        while (i < len && ((p[i] >= '0' && p[i] <= '9') || (p[i] == '_' && i && p[i - 1] != '_')))
                i++;
        return i && p[i - 1] == '_' ? 0 : i;
}

static bool is_float(const char *p, size_t len)
{
        size_t sign = len && (*p == '+' || *p == '-');
        p += sign;
        len -= sign;
        if (len == 3 && (!memcmp(p, "inf", 3) || !memcmp(p, "nan", 3)))
                return true;
        size_t n = digits_len(p, len);
        if (!n || n == len || (n > 1 && *p == '0'))
                return false;
        if (p[n] == '.') {
                size_t fraction = digits_len(p + n + 1, len - n - 1);
                if (!fraction)
                        return false;
                n += 1 + fraction;
        }
        if (n == len)
                return true;
        if (p[n] != 'e' && p[n] != 'E')
                return false;
        n++;
        n += n < len && (p[n] == '+' || p[n] == '-');
        return n < len && digits_len(p + n, len - n) == len - n;
}

static int read_scalar(struct parser *s, struct toml_value *v)
{
        const char *start = s->p;
        while (is_bare(peek(s)) || peek(s) == '+' || peek(s) == '.' || peek(s) == ':')
                s->p++;
        size_t len = (size_t)(s->p - start);
        if (len == 10 && peek(s) == ' ' && is_date(start, len) && peek_at(s, 1) >= '0' && peek_at(s, 1) <= '9')
                for (s->p++; is_bare(peek(s)) || peek(s) == '+' || peek(s) == '.' || peek(s) == ':';) /* date, time */
                        s->p++;
        len = (size_t)(s->p - start);
        if (!len)
                return fail(s, "a value is missing");
        v->string = arena_copy(&s->doc->arena, start, len);
        if (!v->string)
                return error_nomem(s->err);
        v->type = TOML_OTHER;
        if (!strcmp(v->string, "true") || !strcmp(v->string, "false")) {
                v->type = TOML_BOOLEAN;
                v->boolean = *start == 't';
        } else if (is_integer(start, len, &v->integer)) {
                v->type = TOML_INTEGER;
        } else if (!is_float(start, len) && !is_date(start, len)) {
                return fail(
                        s, "%.100s: not a value (text belongs in quotes; true and false are lower case)", v->string);
        }
        return 0;
}

static int read_value(struct parser *s, struct toml_value *v, unsigned depth)
{
        v->line = s->line;
        if (depth >= TOML_MAX_DEPTH)
                return fail(s, "nested deeper than %d", TOML_MAX_DEPTH);
        if (peek(s) == '"' || peek(s) == '\'') {
                int r = read_string(s, true);
                if (r < 0)
                        return r;
                v->type = TOML_STRING;
                v->string = arena_copy(&s->doc->arena, buf_str(&s->scratch), s->scratch.len);
                return v->string ? 0 : error_nomem(s->err);
        }
        if (eat(s, '[')) {
                v->type = TOML_ARRAY;
                return read_array(s, v, depth + 1);
        }
        if (eat(s, '{')) {
                v->type = TOML_TABLE;
                v->id = ++s->tables;
                v->how = HOW_INLINE;
                return read_inline_table(s, v, depth + 1);
        }
        return read_scalar(s, v);
}

/* ---- headers ---- */

/* one step of a header's path: into a table, or into the last table of an array of tables */
static int enter(struct parser *s, struct toml_value **table)
{
        bool new;
        struct toml_value *v;
        int r = find_or_add(s, *table, TOML_TABLE, HOW_IMPLICIT, &v, &new);
        if (r < 0)
                return r;
        if (v->type == TOML_ARRAY && v->how == HOW_ARRAY_OF_TABLES)
                v = v->last;
        if (v->type != TOML_TABLE || v->how == HOW_INLINE)
                return fail(s, "\"%.100s\" has a value already (line %u), nothing can be added", v->key ? v->key : "",
                        v->line);
        *table = v;
        return 0;
}

/* the last part of a header */
static int open_table(struct parser *s, struct toml_value **table, bool array)
{
        bool new;
        struct toml_value *v;
        int r = find_or_add(
                s, *table, array ? TOML_ARRAY : TOML_TABLE, array ? HOW_ARRAY_OF_TABLES : HOW_HEADER, &v, &new);
        if (r < 0)
                return r;
        if (array) {
                if (v->type != TOML_ARRAY || v->how != HOW_ARRAY_OF_TABLES)
                        return fail(s, "[[%.100s]]: this is something else already (line %u)", v->key, v->line);
                struct toml_value *item = new_value(s, TOML_TABLE);
                if (!item)
                        return -ENOMEM;
                item->how = HOW_HEADER;
                append(v, item);
                *table = item;
                return 0;
        }
        if (!new && (v->type != TOML_TABLE || v->how != HOW_IMPLICIT))
                return fail(s, "[%.100s] is there already (line %u)", v->key, v->line);
        v->how = HOW_HEADER;
        *table = v;
        return 0;
}

static int read_header(struct parser *s, struct toml_value **ret_table)
{
        bool array = eat_word(s, "[[");
        if (!array)
                eat(s, '[');
        struct toml_value *table = &s->doc->root;
        for (unsigned parts = 1;; parts++) {
                if (parts > TOML_MAX_DEPTH)
                        return fail(s, "a key of more than %d parts", TOML_MAX_DEPTH);
                skip_blanks(s);
                int r = read_key_part(s);
                if (r < 0)
                        return r;
                skip_blanks(s);
                bool last = !eat(s, '.');
                r = last ? open_table(s, &table, array) : enter(s, &table);
                if (r < 0)
                        return r;
                if (last)
                        break;
        }
        if (!eat_word(s, array ? "]]" : "]"))
                return fail(s, "the %s at the end is missing", array ? "]]" : "]");
        *ret_table = table;
        return end_of_line(s);
}

static int read_document(struct parser *s)
{
        int r = check_text(s);
        if (r < 0)
                return r;
        eat_word(s, "\xef\xbb\xbf"); /* byte order mark */
        struct toml_value *table = &s->doc->root;
        for (;;) {
                skip_lines(s);
                if (s->p == s->end)
                        return 0;
                if (peek(s) == '[') {
                        r = read_header(s, &table);
                } else {
                        r = read_pair(s, table, 0);
                        if (r == 0)
                                r = end_of_line(s);
                }
                if (r < 0)
                        return r;
        }
}

int toml_parse(const void *data, size_t len, struct toml **ret_toml, struct error *err)
{
        if (len > TOML_MAX_BYTES)
                return error_set(err, -EFBIG, "larger than %d bytes", TOML_MAX_BYTES);
        cleanup(toml_freep) struct toml *doc = calloc(1, sizeof *doc);
        if (!doc)
                return error_nomem(err);
        arena_init(&doc->arena);
        doc->root = (struct toml_value){.type = TOML_TABLE, .line = 1, .how = HOW_HEADER};
        const char *text = len ? data : "";
        struct parser s = {.p = text, .end = text + len, .line = 1, .doc = doc, .err = err};
        map_init(&s.known);
        buf_init(&s.scratch, TOML_MAX_BYTES);
        int r = read_document(&s);
        map_done(&s.known);
        buf_done(&s.scratch);
        if (r == 0)
                *ret_toml = take(doc);
        return r;
}

void toml_free(struct toml *toml)
{
        if (!toml)
                return;
        arena_done(&toml->arena);
        free(toml);
}

/* ---- asking ---- */

const struct toml_value *toml_root(const struct toml *toml)
{
        return &toml->root;
}

const struct toml_value *toml_find(const struct toml_value *table, const char *key)
{
        for (const struct toml_value *v = table->first; v; v = v->next)
                if (!strcmp(v->key, key))
                        return v;
        return NULL;
}

static const char *type_name(enum toml_type type)
{
        static const char *const names[] = {
                [TOML_STRING] = "text in quotes",
                [TOML_INTEGER] = "a whole number",
                [TOML_BOOLEAN] = "true or false",
                [TOML_OTHER] = "a number or a date",
                [TOML_ARRAY] = "a list",
                [TOML_TABLE] = "a table",
        };
        return names[type];
}

int toml_get(const struct toml_value *table, const char *key, enum toml_type type, const struct toml_value **ret_value,
        struct error *err)
{
        const struct toml_value *v = toml_find(table, key);
        if (v && v->type != type)
                return error_set(err, -EINVAL, "line %u: \"%s\" must be %s", v->line, key, type_name(type));
        *ret_value = v;
        return 0;
}

int toml_get_string(const struct toml_value *table, const char *key, const char **ret_string, struct error *err)
{
        const struct toml_value *v = NULL;
        int r = toml_get(table, key, TOML_STRING, &v, err);
        if (r == 0)
                *ret_string = v ? v->string : NULL;
        return r;
}

int toml_get_bool(const struct toml_value *table, const char *key, bool absent, bool *ret_bool, struct error *err)
{
        const struct toml_value *v = NULL;
        int r = toml_get(table, key, TOML_BOOLEAN, &v, err);
        if (r == 0)
                *ret_bool = v ? v->boolean : absent;
        return r;
}

int toml_check_items(const struct toml_value *array, enum toml_type type, struct error *err)
{
        for (const struct toml_value *v = array->first; v; v = v->next)
                if (v->type != type)
                        return error_set(
                                err, -EINVAL, "line %u: every item of the list must be %s", v->line, type_name(type));
        return 0;
}
