//! What keeps a program from being linked, compiled, or right.

use crate::generate::Difficulty::{Easy, Medium};
use crate::generate::families::builds::MAKE;
use crate::generate::families::programs::{THING, TOOL, filled};
use crate::generate::template::{Made, Template, has, holds, output, write};

const MAKEFILE: &str = "
CC = gcc
CFLAGS = -O0 -Wall

@tool: main.o @part.o
\t$(CC) $(CFLAGS) -o @tool main.o @part.o

%.o: %.c @part.h
\t$(CC) $(CFLAGS) -c -o $@ $<

clean:
\trm -f @tool *.o

.PHONY: clean
";

pub(super) const LIBRARY: Template = Template {
    name: "library",
    difficulty: Easy,
    parameters: &[TOOL, THING],
    phrasings: &[
        "make fails to link the program {0} from main.c and {1}.c: the math library is missing. \
         Repair the Makefile, so that make builds {0}. The C files and {1}.h are right and stay \
         as they are.",
        "Run make and you see an undefined reference. Change the Makefile (nothing else) such \
         that make builds {0} out of main.c and {1}.c.",
        "The program {0}, whose sources are main.c, {1}.c and {1}.h, cannot be built with make. \
         Something is wrong in how the Makefile links it. Fix this there and leave the sources \
         alone.",
    ],
    make: |values, random| {
        let (tool, part) = (values[0], values[1]);
        let marks = [("@tool", tool), ("@part", part)];
        let source = filled(
            r#"
#include <math.h>
#include "@part.h"

double @part(double a, double b) {
    return sqrt(a * a + b * b) + floor(b);
}
"#,
            &marks,
        );
        let main = filled(
            r#"
#include <stdio.h>
#include <stdlib.h>
#include "@part.h"

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: @tool A B\n");
        return 2;
    }
    printf("%.3f\n", @part(atof(argv[1]), atof(argv[2])));
    return 0;
}
"#,
            &marks,
        );
        let header = format!("double {part}(double a, double b);");
        let makefile = filled(MAKEFILE, &marks);
        let mut end = vec![holds("make", &format!("rm -f {tool} *.o && {MAKE}"))];
        for _ in 0..3 {
            let (a, b) = (random.within(1..=40), random.within(1..=40));
            let (x, y) = (a as f64, b as f64);
            let value = format!("{:.3}", (x * x + y * y).sqrt() + y);
            end.push(output(&format!("timeout 5 ./{tool} {a} {b}"), &value));
        }
        let mut hidden = Vec::new();
        for (name, text) in [
            ("main.c".to_owned(), &main),
            (format!("{part}.c"), &source),
            (format!("{part}.h"), &header),
        ] {
            hidden.push(has(&name, text));
            end.push(holds(&format!("{name} as it was"), &format!("cmp {name} /tests/{name}")));
        }
        let mut start = hidden.clone();
        start.push(has("Makefile", &makefile));
        Made {
            start,
            hidden,
            end,
            solution: vec![format!("sed -i 's/-o {tool} .*/& -lm/' Makefile")],
            hard_coded: vec![format!("gcc -o {tool} main.c {part}.c -lm")],
            near_miss: vec!["sed -i 's/^CFLAGS.*/&\\nLDFLAGS = -lm/' Makefile".to_owned()],
            ..Made::default()
        }
    },
};

pub(super) const COMPILE: Template = Template {
    name: "compile",
    difficulty: Easy,
    parameters: &[TOOL, THING],
    phrasings: &[
        "{0}.c does not compile, and once it does, it still leaves out the last number. Called \
         as ./{0} 3 4 5, the program should print {1} and the sum of its arguments, here {1} 12; \
         without arguments, {1} 0. Repair {0}.c, so that make builds {0} from it.",
        "Repair the program {0}.c: make must compile it, and ./{0} with any number of whole \
         numbers as arguments must print a line with the word {1}, a space and the sum of all of \
         them (0 for none). It misses one of them as it is.",
        "make fails on {0}.c. Fix that, and another mistake in it: the program {0} adds up the \
         whole numbers given on the command line and prints the word {1}, a space and the \
         result, but the last number is not added. No numbers give {1} 0.",
    ],
    make: |values, random| {
        let (tool, word) = (values[0], values[1]);
        let of = |end: &str, count: &str| {
            filled(
                r#"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    long sum = 0@end
    for (int i = 1; i < @count; i++) {
        sum += atol(argv[i]);
    }
    printf("@word %ld\n", sum);
    return 0;
}
"#,
                &[("@end", end), ("@count", count), ("@word", word)],
            )
        };
        let makefile =
            filled("CFLAGS = -O1 -Wall\n\nall: @tool\n\nclean:\n\trm -f @tool", &[("@tool", tool)]);
        let file = format!("{tool}.c");
        let mut end = vec![
            holds("make", &format!("rm -f {tool} && {MAKE}")),
            output(&format!("timeout 5 ./{tool}"), &format!("{word} 0")),
        ];
        for count in [1, 3, 12] {
            let numbers: Vec<usize> = (0..count).map(|_| random.within(1..=5000)).collect();
            let shown: Vec<String> = numbers.iter().map(usize::to_string).collect();
            let sum: usize = numbers.iter().sum();
            let run = format!("timeout 5 ./{tool} {}", shown.join(" "));
            end.push(output(&run, &format!("{word} {sum}")));
        }
        let constant = filled(
            "
#include <stdio.h>

int main(int argc, char **argv) {
    printf(\"@word %d\\n\", argc > 1 ? 12 : 0);
    return 0;
}
",
            &[("@word", word)],
        );
        Made {
            start: vec![has(&file, &of("", "argc - 1")), has("Makefile", &makefile)],
            end,
            solution: vec![write(&file, &of(";", "argc"))],
            hard_coded: vec![write(&file, &constant)],
            near_miss: vec![write(&file, &of(";", "argc - 1"))],
            ..Made::default()
        }
    },
};

pub(super) const STATISTICS: Template = Template {
    name: "statistics",
    difficulty: Medium,
    parameters: &[TOOL, THING],
    phrasings: &[
        "{0}.c should read whole numbers from standard input and print one line: {1} min A max B \
         mean C, with the smallest and the greatest number and their mean to two decimals. \
         Without any number it prints {1} none. Its results are wrong for many inputs, such as \
         ./{0} < sample.txt, and some are negative. Repair {0}.c; make builds {0}.",
        "Find the bugs in {0}.c (build it with make, try ./{0} < sample.txt). From integers on \
         standard input, which may be negative and stand on one or more lines, it is to print \
         the line \"{1} min A max B mean C\": least, greatest, and arithmetic mean with 2 \
         decimals. Empty input gives the line \"{1} none\".",
        "The program {0} computes wrong numbers; fix its source {0}.c so that after make it \
         works. Input (standard input) are any number of integers, also below 0. Output is {1} \
         min A max B mean C on one line, where A and B are the smallest and largest of them and \
         C the mean, as exact as two decimals can be; or {1} none if there are no integers at \
         all.",
    ],
    make: |values, random| {
        let (tool, word) = (values[0], values[1]);
        let file = format!("{tool}.c");
        let of = |first: &str, loop_while: &str, mean: &str, none: &str| {
            filled(
                r#"
#include <stdio.h>

int main(void) {
    long number, sum = 0, min = 0, max = 0;
    int count = 0;
    @while {
        if (@firstnumber < min) {
            min = number;
        }
        if (@firstnumber > max) {
            max = number;
        }
        sum += number;
        count++;
    }
@none    printf("@word min %ld max %ld mean %.2f\n", min, max, @mean);
    return 0;
}
"#,
                &[
                    ("@first", first),
                    ("@while", loop_while),
                    ("@mean", mean),
                    ("@none", none),
                    ("@word", word),
                ],
            )
        };
        let check = format!(
            "    if (count == 0) {{\n        puts(\"{word} none\");\n        return 0;\n    }}\n"
        );
        let read = "while (scanf(\"%ld\", &number) == 1)";
        let broken = of(
            "",
            "while (scanf(\"%ld\", &number) != 0 && !feof(stdin))",
            "(double)(sum / count)",
            "",
        );
        let fixed = of("count == 0 || ", read, "(double)sum / count", &check);
        let near = of("", read, "(double)sum / count", &check);
        // A count of 7 or 11 makes no mean end right between two of two decimals.
        let mut draw = |low: i64, count: usize| -> (String, String) {
            let numbers: Vec<i64> = (0..count)
                .map(|_| low + i64::try_from(random.within(0..=900)).unwrap_or(0))
                .collect();
            let ends = numbers.iter().min().zip(numbers.iter().max());
            let sum: i64 = numbers.iter().sum();
            let text: Vec<String> = numbers.iter().map(i64::to_string).collect();
            let said = ends.map_or(format!("{word} none"), |(min, max)| {
                let mean = sum as f64 / count as f64;
                format!("{word} min {min} max {max} mean {mean:.2}")
            });
            (text.join(if count > 7 { "\n" } else { " " }), said)
        };
        let (seen, seen_said) = draw(-300, 11);
        let more = [draw(-2000, 7), draw(5, 11), draw(-450, 77), draw(100, 1), draw(0, 0)];
        let run = |file: &str| format!("timeout 5 ./{tool} < {file}");
        let mut end = vec![
            holds("make", &format!("rm -f {tool} && {MAKE}")),
            output(&run("/tests/sample.txt"), &seen_said),
        ];
        let mut hidden = vec![has("sample.txt", &seen)];
        for (at, (text, said)) in more.into_iter().enumerate() {
            end.push(output(&run(&format!("/tests/{at}.txt")), &said));
            // Without a line end, which is where reading may end too early.
            hidden.push((format!("{at}.txt"), text));
        }
        let constant = filled(
            r#"
#include <stdio.h>

int main(void) {
    puts("@said");
    return 0;
}
"#,
            &[("@said", &seen_said)],
        );
        let makefile =
            filled("CFLAGS = -O1 -Wall\n\nall: @tool\n\nclean:\n\trm -f @tool", &[("@tool", tool)]);
        Made {
            start: vec![has(&file, &broken), has("Makefile", &makefile), has("sample.txt", &seen)],
            hidden,
            end,
            solution: vec![write(&file, &fixed)],
            hard_coded: vec![write(&file, &constant)],
            near_miss: vec![write(&file, &near)],
            ..Made::default()
        }
    },
};
