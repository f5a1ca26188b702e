#ifndef WORDS_H
#define WORDS_H

#include <stddef.h>

/* Counts the words of text: runs of bytes that are not white space. */
size_t count_words(const char *text, size_t length);

#endif
