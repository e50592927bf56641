/* How: a table of counts and what they count; those that are not 0 become a list. */
#include "image/notes.h"

#include <inttypes.h>
#include <stdio.h>

struct note {
        uint64_t count;
        const char *what;
};

/* adds "3 of unknown types, 1 empty links" behind len bytes; the texts here are all far shorter than the room for them */
static size_t list(char text[NOTES_TEXT], size_t len, const char *head, const struct note *notes, size_t count)
{
        const char *before = head;
        for (size_t i = 0; i < count; i++) {
                if (!notes[i].count)
                        continue;
                int n = snprintf(
                        text + len, NOTES_TEXT - len, "%s%" PRIu64 " %s", before, notes[i].count, notes[i].what);
                len = MIN(len + (size_t)MAX(n, 0), (size_t)NOTES_TEXT - 1);
                before = ", ";
        }
        return len;
}

const char *notes_of_layer(const struct tar_notes *n, char text[NOTES_TEXT])
{
        const struct note dropped[] = {
                {n->dropped_names, "entries with names that no system has"},
                {n->dropped_types, "of unknown types"},
                {n->dropped_links, "empty links"},
                {n->dropped_xattrs, "extended attributes"},
        };
        const struct note mended[] = {{n->clamped_times, "times clamped"}};
        text[0] = '\0';
        size_t len = list(text, 0, "left out: ", dropped, ARRAY_LEN(dropped));
        len = list(text, len, len ? "; " : "", mended, ARRAY_LEN(mended));
        if (n->trailing_garbage)
                len += (size_t)snprintf(
                        text + len, NOTES_TEXT - len, "%sbytes after the archive's end", len ? "; " : "");
        if (n->missing_end && len < NOTES_TEXT)
                snprintf(text + len, NOTES_TEXT - len, "%sno end of the archive", len ? "; " : "");
        return text;
}

const char *notes_of_tree(const struct tree_stats *s, char text[NOTES_TEXT])
{
        const struct note notes[] = {
                {s->replaced_parents, "directories in place of a lower layer's symlink, as under docker run"},
                {s->dropped_links, "hard links without a target left out"},
                {s->dropped_loops, "entries below symlinks that lead nowhere left out"},
                {s->odd_whiteouts, "whiteouts that mean nothing left out"},
        };
        text[0] = '\0';
        list(text, 0, "", notes, ARRAY_LEN(notes));
        return text;
}
