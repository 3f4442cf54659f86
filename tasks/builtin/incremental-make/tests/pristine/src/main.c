#include <stdio.h>
#include "lookup.h"
#include "parse.h"

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        int number = parse_number(argv[i]);
        printf("%s %s\n", argv[i], number < 0 ? "not-a-number" : code_text(number));
    }
    return argc > 1 ? 0 : 2;
}
