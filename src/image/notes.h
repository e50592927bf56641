#pragma once
/** What was left out of an image or mended, in words with counts: for the log and for `imagefs inspect`. */
#include "layer/tar.h"
#include "tree/tree.h"

enum { NOTES_TEXT = 400 };

/** What the reader of a layer noted; "" when nothing. Gives text. */
const char *notes_of_layer(const struct tar_notes *n, char text[NOTES_TEXT]);

/** What the merge of the layers noted; "" when nothing. Gives text. */
const char *notes_of_tree(const struct tree_stats *s, char text[NOTES_TEXT]);
