#include "words.h"

#include <stdio.h>
#include <string.h>

static int failures;

static void expect(const char *text, size_t words) {
    size_t counted = count_words(text, strlen(text));
    if (counted != words) {
        fprintf(stderr, "\"%s\": counted %zu words, expected %zu\n", text, counted, words);
        failures++;
    }
}

int main(void) {
    expect("", 0);
    expect("   \n\t", 0);
    expect("one", 1);
    expect("one two  three", 3);
    expect("\tone\ntwo\n", 2);
    if (failures == 0) {
        printf("all tests passed\n");
    }
    return failures != 0;
}
