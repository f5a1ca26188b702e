#include "words.h"

#include <ctype.h>

size_t count_words(const char *text, size_t length) {
    size_t words = 0;
    int inside = 0;
    for (size_t i = 0; i < length; i++) {
        int space = isspace((unsigned char)text[i]) != 0;
        if (!space && !inside) {
            words++;
        }
        inside = !space;
    }
    return words;
}
