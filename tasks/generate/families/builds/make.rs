//! What a Makefile knows of files that depend on each other.

use crate::generate::Difficulty::{Hard, Medium};
use crate::generate::families::builds::{AGE, MAKE};
use crate::generate::families::programs::{FOLDER, THING, TOOL, filled};
use crate::generate::template::{End, Made, Template, has, holds, output, write};

/// Nothing is left to make.
fn up_to_date() -> End {
    holds("nothing to do", "timeout 20 make -q > /dev/null 2>&1")
}

/// After a change by these commands, make is run and the program prints this.
fn changed(change: &str, tool: &str, said: &str) -> Vec<End> {
    vec![
        holds("a change", &format!("{AGE} && {change}")),
        holds("make after a change", MAKE),
        output(&format!("timeout 5 ./{tool}"), said),
        up_to_date(),
    ]
}

pub(super) const HEADER: Template = Template {
    name: "header",
    difficulty: Medium,
    parameters: &[TOOL, THING],
    phrasings: &[
        "After a change in {1}.h, make does not build {0} anew, and after another it does so \
         only in part. Repair the Makefile: when {1}.h, main.c or part.c has changed, make must \
         recompile what includes or is it, and link {0}; when nothing has changed, make must do \
         nothing. The C files stay as they are.",
        "Someone changed a number in {1}.h, ran make, and the program {0} still printed the old \
         one. Fix the Makefile (nothing else): {0} has to be up to date after make, whichever of \
         main.c, part.c and {1}.h was edited, and a second make without edits must find nothing \
         to do.",
        "The Makefile of {0} lacks dependencies. Both main.c and part.c include {1}.h. Add what \
         is missing, so that after an edit of any of the three files make brings {0} up to date, \
         without building anything where there was no edit. Leave the sources alone.",
    ],
    make: |values, random| {
        let (tool, header) = (values[0], values[1]);
        let upper = header.to_uppercase();
        let marks = [("@h", header), ("@U", &*upper)];
        let main = filled(
            r#"
#include <stdio.h>
#include "@h.h"

int part(void);

int main(void) {
    printf("%d %d\n", @U_ONE, part());
    return 0;
}
"#,
            &marks,
        );
        let part = filled("#include \"@h.h\"\n\nint part(void) {\n    return @U_TWO;\n}", &marks);
        let numbers = random.some(&(100..1000).collect::<Vec<usize>>(), 5);
        let text = |one: usize, two: usize| {
            format!("#define {upper}_ONE {one}\n#define {upper}_TWO {two}")
        };
        let of = |main: &str, part: &str| {
            filled(
                "
CC = gcc
CFLAGS = -O0 -Wall

@tool: main.o part.o
\t$(CC) -o @tool main.o part.o

main.o: main.c@main
\t$(CC) $(CFLAGS) -c main.c

part.o: part.c@part
\t$(CC) $(CFLAGS) -c part.c

clean:
\trm -f @tool *.o

.PHONY: clean
",
                &[("@tool", tool), ("@main", main), ("@part", part)],
            )
        };
        let on = format!(" {header}.h");
        let set = |name: &str, to: usize| format!("sed -i 's/_{name} .*/_{name} {to}/' {header}.h");
        let mut end = vec![
            holds("main.c as it was", "cmp main.c /tests/main.c"),
            holds("part.c as it was", "cmp part.c /tests/part.c"),
            holds("make", &format!("rm -f {tool} *.o && {MAKE}")),
            output(&format!("timeout 5 ./{tool}"), &format!("{} {}", numbers[0], numbers[1])),
            up_to_date(),
        ];
        let [_, b, c, d, e] = numbers[..] else { return Made::default() };
        end.extend(changed(&set("ONE", c), tool, &format!("{c} {b}")));
        end.extend(changed(&set("TWO", d), tool, &format!("{c} {d}")));
        let edit = format!("sed -i 's/return .*/return {e};/' part.c");
        end.extend(changed(&edit, tool, &format!("{c} {e}")));
        Made {
            start: vec![
                has("main.c", &main),
                has("part.c", &part),
                has(&format!("{header}.h"), &text(numbers[0], b)),
                has("Makefile", &of("", "")),
            ],
            hidden: vec![has("main.c", &main), has("part.c", &part)],
            end,
            solution: vec![write("Makefile", &of(&on, &on))],
            hard_coded: vec![
                "make".to_owned(),
                "touch main.c part.c".to_owned(),
                "make".to_owned(),
            ],
            near_miss: vec![write("Makefile", &of(&on, ""))],
            ..Made::default()
        }
    },
};

pub(super) const FROM_SCRATCH: Template = Template {
    name: "from-scratch",
    difficulty: Hard,
    parameters: &[TOOL, FOLDER, THING],
    phrasings: &[
        "Write a Makefile with which make builds the program {0} in /app from all C files in the \
         folder {1}, also from those that will be added to it later. Object files go into the \
         folder {2}, which make creates: {1}/main.c becomes {2}/main.o, and so on. A changed C \
         file or header of {1} must lead to what is needed being built anew; without changes \
         make must do nothing. make clean removes {0} and {2}. Leave {1} as it is.",
        "A Makefile is missing here. make should compile every {1}/NAME.c to {2}/NAME.o (making \
         the folder {2} if it is not there) and link all of them as ./{0}. New .c files put into \
         {1} later have to be included without editing the Makefile. If a .c or .h file in {1} \
         is edited, the next make brings {0} up to date; if nothing is edited, it has nothing to \
         do. make clean deletes the program and the folder {2}. Do not change the sources.",
        "Create /app/Makefile for the sources in {1}. Its first target is the program {0} (in \
         /app), linked from one object file in {2} for each C file in {1}, such as {2}/main.o \
         for {1}/main.c, whatever C files there will be. {2} is created on the way. Edits of C \
         files and of headers in {1} must be noticed by make, and when there are none, a second \
         make does nothing. The target clean removes {0} and the folder {2} with all in it. The \
         files in {1} stay as they are.",
    ],
    make: |values, random| {
        let (tool, folder, objects) = (values[0], values[1], values[2]);
        let numbers = random.some(&(100..1000).collect::<Vec<usize>>(), 5);
        let [a, b, c, d, e] = numbers[..] else { return Made::default() };
        let main = r#"
#include <stdio.h>
#include "parts.h"

int main(void) {
    printf("%d %d\n", LEVEL, part());
    return 0;
}
"#
        .trim_matches('\n');
        let part = format!("#include \"parts.h\"\n\nint part(void) {{\n    return {b};\n}}");
        let header = format!("#define LEVEL {a}\n\nint part(void);\nint added(void);");
        let of = |objects_rule: &str| {
            filled(
                &format!(
                    "
SOURCES = $(wildcard @from/*.c)
OBJECTS = $(SOURCES:@from/%.c=@to/%.o)

@tool: $(OBJECTS)
\tgcc -o $@ $(OBJECTS)

{objects_rule}
\tmkdir -p @to
\tgcc -Wall -c -o $@ $<

clean:
\trm -rf @tool @to

.PHONY: clean
"
                ),
                &[("@tool", tool), ("@from", folder), ("@to", objects)],
            )
        };
        let path = |name: &str| format!("{folder}/{name}");
        let added = format!(
            "printf '#include \"parts.h\"\\nint added(void) {{ return {e}; }}\\n' > {} && \
             sed -i 's/part()/added()/' {}",
            path("added.c"),
            path("main.c")
        );
        let sources = [("main.c", main), ("part.c", &*part), ("parts.h", &*header)];
        let mut end: Vec<End> = sources
            .iter()
            .map(|(name, _)| {
                holds(&format!("{name} as it was"), &format!("cmp {} /tests/{name}", path(name)))
            })
            .collect();
        end.extend([
            holds("make", &format!("rm -rf {tool} {objects} && {MAKE}")),
            output(&format!("timeout 5 ./{tool}"), &format!("{a} {b}")),
            holds("objects", &format!("[ -f {objects}/main.o ] && [ -f {objects}/part.o ]")),
            up_to_date(),
        ]);
        let set =
            |file: &str, from: usize, to: usize| format!("sed -i 's/{from}/{to}/' {}", path(file));
        end.extend(changed(&set("parts.h", a, c), tool, &format!("{c} {b}")));
        end.extend(changed(&set("part.c", b, d), tool, &format!("{c} {d}")));
        end.extend(changed(&added, tool, &format!("{c} {e}")));
        end.push(holds(
            "make clean",
            &format!(
                "timeout 20 make clean > /dev/null 2>&1; [ ! -e {tool} ] && [ ! -e {objects} ]"
            ),
        ));
        let all = format!("{tool}:\n\tgcc -o {tool} {folder}/main.c {folder}/part.c");
        Made {
            start: sources.iter().map(|(name, text)| has(&path(name), text)).collect(),
            hidden: sources.iter().map(|(name, text)| has(name, text)).collect(),
            end,
            solution: vec![write("Makefile", &of("@to/%.o: @from/%.c $(wildcard @from/*.h)"))],
            hard_coded: vec![write("Makefile", &all), "make".to_owned()],
            near_miss: vec![write("Makefile", &of("@to/%.o: @from/%.c"))],
            ..Made::default()
        }
    },
};

pub(super) const ARCHIVE: Template = Template {
    name: "archive",
    difficulty: Hard,
    parameters: &[TOOL, THING],
    phrasings: &[
        "make should build the static library lib{1}.a from {1}1.c and {1}2.c and link the \
         program {0} from main.c with it, but fails with one error after the other. Repair the \
         Makefile. After an edit of any .c file or of {1}.h, make has to bring both the library \
         and {0} up to date, and without edits it has nothing to do. The sources are fine and \
         stay as they are.",
        "The Makefile here is broken in several places. Wanted: lib{1}.a is an archive of {1}1.o \
         and {1}2.o, {0} is main.o linked with this library, and plain make builds both. \
         Whenever one of main.c, {1}1.c, {1}2.c or {1}.h was changed, the next make must renew \
         all that depends on it, the library and {0} included; with nothing changed it must do \
         nothing. Change only the Makefile.",
        "Fix the Makefile, and only that, so that make works: it compiles {1}1.c and {1}2.c \
         (both with {1}.h) into the library lib{1}.a, and main.c, which uses {1}.h too, into the \
         program {0}, which is linked with the library. Edits must have their effect: after one \
         to any source file or the header, make rebuilds what is concerned, and otherwise \
         nothing.",
    ],
    make: |values, random| {
        let (tool, lib) = (values[0], values[1]);
        let numbers = random.some(&(100..1000).collect::<Vec<usize>>(), 6);
        let [a, b, c, d, e, f] = numbers[..] else { return Made::default() };
        let marks = [("@tool", tool), ("@l", lib)];
        let main = filled(
            r#"
#include <stdio.h>
#include "@l.h"

int main(void) {
    printf("%d %d %d\n", LEVEL, @l1(), @l2());
    return 0;
}
"#,
            &marks,
        );
        let part = |at: usize, number: usize| {
            format!("#include \"{lib}.h\"\n\nint {lib}{at}(void) {{\n    return {number};\n}}")
        };
        let header =
            filled(&format!("#define LEVEL {a}\n\nint @l1(void);\nint @l2(void);"), &marks);
        let sources = [
            ("main.c".to_owned(), main),
            (format!("{lib}1.c"), part(1, b)),
            (format!("{lib}2.c"), part(2, c)),
            (format!("{lib}.h"), header),
        ];
        let of = |head: &str, tab: &str, order: &str, objects: &str, deps: &str| {
            filled(
                "
CC = gcc
CFLAGS = -O0 -Wall

@tool: @head
\t$(CC) -o @tool @order

lib@l.a: @objects
@tabar rcs lib@l.a @objects

%.o: %.c@deps
\t$(CC) $(CFLAGS) -c -o $@ $<

clean:
\trm -f @tool *.o *.a

.PHONY: clean
",
                &[
                    ("@head", head),
                    ("@tab", tab),
                    ("@order", order),
                    ("@objects", objects),
                    ("@deps", deps),
                    ("@tool", tool),
                    ("@l", lib),
                ],
            )
        };
        let both = "@l1.o @l2.o";
        let broken = of("main.o", "    ", "-L. -l@l main.o", "@l1.o", "");
        let fixed = of("main.o lib@l.a", "\t", "main.o -L. -l@l", both, " @l.h");
        // The library is made first, but a newer one is not linked.
        let near = of("main.o | lib@l.a", "\t", "main.o -L. -l@l", both, " @l.h");
        let mut end: Vec<End> = sources
            .iter()
            .map(|(name, _)| {
                holds(&format!("{name} as it was"), &format!("cmp {name} /tests/{name}"))
            })
            .collect();
        end.extend([
            holds("make", &format!("rm -f {tool} *.o *.a && {MAKE}")),
            output(&format!("timeout 5 ./{tool}"), &format!("{a} {b} {c}")),
            output(&format!("ar t lib{lib}.a | LC_ALL=C sort"), &format!("{lib}1.o\n{lib}2.o")),
            up_to_date(),
        ]);
        let set =
            |file: &str, from: usize, to: usize| format!("sed -i 's/{from}/{to}/' {lib}{file}");
        end.extend(changed(&set("2.c", c, d), tool, &format!("{a} {b} {d}")));
        end.extend(changed(&set("1.c", b, e), tool, &format!("{a} {e} {d}")));
        end.extend(changed(&set(".h", a, f), tool, &format!("{f} {e} {d}")));
        let files: Vec<(String, String)> =
            sources.iter().map(|(name, text)| has(name, text)).collect();
        let mut start = files.clone();
        start.push(has("Makefile", &broken));
        Made {
            start,
            hidden: files,
            end,
            solution: vec![write("Makefile", &fixed)],
            hard_coded: vec![
                format!("gcc -c {lib}1.c {lib}2.c"),
                format!("ar rcs lib{lib}.a {lib}1.o {lib}2.o"),
                format!("gcc -o {tool} main.c -L. -l{lib}"),
            ],
            near_miss: vec![write("Makefile", &near)],
            ..Made::default()
        }
    },
};
