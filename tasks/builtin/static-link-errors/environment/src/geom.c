#include <stdio.h>
#include "geom.h"
#include "vec.h"

double polygon_perimeter(const struct vec *points, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) {
        double length = vec_length(points[i], points[(i + 1) % count]);
        if (verbose)
            fprintf(stderr, "edge %d: %.*f\n", i, digits, length);
        sum += length;
    }
    return sum;
}

double polygon_area(const struct vec *points, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) {
        struct vec a = points[i], b = points[(i + 1) % count];
        sum += a.x * b.y - b.x * a.y;
    }
    return sum < 0 ? -sum / 2 : sum / 2;
}
