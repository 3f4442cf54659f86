/* Closed polygons. */
#include "vec.h"
#include "config.h"

double polygon_perimeter(const struct vec *points, int count);
double polygon_area(const struct vec *points, int count);
