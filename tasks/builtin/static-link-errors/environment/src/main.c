#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "config.h"
#include "geom.h"
#include "vec.h"

#define MAX_POINTS 1000

int main(int argc, char **argv) {
    struct vec points[MAX_POINTS];
    int count = 0;

    digits = 2;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0)
            verbose = 1;
        else if (strcmp(argv[i], "-d") == 0 && i + 1 < argc)
            digits = atoi(argv[++i]);
        else {
            fprintf(stderr, "usage: polygon [-v] [-d DIGITS] < POINTS\n");
            return 2;
        }
    }
    while (count < MAX_POINTS && scanf("%lf %lf", &points[count].x, &points[count].y) == 2)
        count++;
    printf("perimeter %.*f\n", digits, polygon_perimeter(points, count));
    printf("area %.*f\n", digits, polygon_area(points, count));
    return 0;
}
