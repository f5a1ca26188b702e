/* words FILE: prints how many words a file of at most 1 MiB has. */
#include "words.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST = 1 << 20 };

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: words FILE\n");
        return 2;
    }
    FILE *file = fopen(argv[1], "rb");
    if (file == NULL) {
        perror(argv[1]);
        return 1;
    }
    char *text = malloc(MOST);
    if (text == NULL) {
        fclose(file);
        return 1;
    }
    size_t length = fread(text, 1, MOST, file);
    printf("%zu words\n", count_words(text, length));
    free(text);
    fclose(file);
    return 0;
}
