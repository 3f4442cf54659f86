import os
import subprocess
import tempfile
import unittest

SCRIPT = "/app/toc.py"

PLAIN = """# Title

<!-- toc -->
old text
## Old heading inside
<!-- /toc -->

## First

#### Deep

##### Too deep

##   Spaced out   ##

## C#

 ### [Link](https://example.org/x) and `code` and *stars*

##NoSpace

    ## Indented code

## First
"""
PLAIN_DONE = """# Title

<!-- toc -->

- [First](#first)
    - [Deep](#deep)
- [Spaced out](#spaced-out)
- [C#](#c)
  - [Link and code and stars](#link-and-code-and-stars)
- [First](#first-1)

<!-- /toc -->

## First

#### Deep

##### Too deep

##   Spaced out   ##

## C#

 ### [Link](https://example.org/x) and `code` and *stars*

##NoSpace

    ## Indented code

## First
"""
CODE = """## Above the markers

```
<!-- toc -->
## In code
<!-- /toc -->
```

<!-- toc -->

stale

<!-- /toc -->

~~~~ text
## In tildes
~~~
```
## Still in tildes
~~~~
## After tildes

````md
```
## In backticks
```
````   
## After backticks
  ```sh
## Open to the end
``` not a close
"""
CODE_LIST = ["- [Above the markers](#above-the-markers)", "- [After tildes](#after-tildes)", "- [After backticks](#after-backticks)"]


class MarkdownToc(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.dir = tmp.name

    def put(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8", newline="") as f:
            f.write(text)
        return path

    def get(self, path):
        with open(path, encoding="utf-8", newline="") as f:
            return f.read()

    def toc(self, *args, code=0):
        done = subprocess.run(["python3", SCRIPT, *args], capture_output=True, text=True, encoding="utf-8", timeout=20, cwd=self.dir)
        self.assertEqual(done.returncode, code, f"exit status of toc.py {args}; stderr: {done.stderr}")
        return done

    def listed(self, text):
        """The list lines that the tool writes for a document with this body."""
        path = self.put("doc.md", "<!-- toc -->\n<!-- /toc -->\n" + text)
        self.toc(path)
        result = self.get(path)
        head, tail = result.split("\n<!-- /toc -->\n", 1)
        self.assertEqual(tail, text, "text outside of the markers was changed")
        lines = head.split("\n")
        self.assertEqual((lines[0], lines[1], lines[-1]), ("<!-- toc -->", "", ""))
        return lines[2:-1]

    def test_levels_text_and_layout_and_second_run(self):
        path = self.put("a.md", PLAIN)
        self.toc(path)
        self.assertEqual(self.get(path), PLAIN_DONE)
        self.toc(path)
        self.assertEqual(self.get(path), PLAIN_DONE)

    def test_code_blocks_hold_no_headings_and_no_markers(self):
        path = self.put("a.md", CODE)
        self.toc(path)
        before, after = CODE.split("\n\nstale\n\n")
        self.assertEqual(self.get(path), before + "\n\n" + "\n".join(CODE_LIST) + "\n\n" + after)

    def test_anchors_follow_github_rules(self):
        self.assertEqual(
            self.listed("## A & B\n## Größe: 10 µm (max.)\n## snake_case-and-dash\n## 1.2.0 – Released!\n## 日本語 guide"),
            ["- [A & B](#a--b)", "- [Größe: 10 µm (max.)](#größe-10-µm-max)", "- [snake_case-and-dash](#snake_case-and-dash)",
             "- [1.2.0 – Released!](#120--released)", "- [日本語 guide](#日本語-guide)"])

    def test_repeated_headings_are_numbered_over_all_levels(self):
        self.assertEqual(
            self.listed("# Options\n\n## Options\n\n##### Options\n\n### options!\n\n## Other\n\n#### **Options**\n"),
            ["- [Options](#options-1)", "  - [options!](#options-3)", "- [Other](#other)", "    - [Options](#options-4)"])

    def test_document_without_headings_to_list(self):
        path = self.put("a.md", "# Only a title\n<!-- toc -->\n- [Gone](#gone)\n<!-- /toc -->\nno newline at the end")
        self.toc(path)
        self.assertEqual(self.get(path), "# Only a title\n<!-- toc -->\n\n<!-- /toc -->\nno newline at the end")

    def test_check_mode_and_missing_markers(self):
        stale = self.put("stale.md", PLAIN)
        fresh = self.put("fresh.md", PLAIN_DONE)
        none = self.put("none.md", "## No markers\n\n```\n<!-- toc -->\n<!-- /toc -->\n```\n")
        self.assertEqual(self.toc("--check", "fresh.md").stdout, "")
        self.assertEqual(self.toc("--check", "stale.md", "fresh.md", code=1).stdout, "stale.md\n")
        self.assertEqual(self.get(stale), PLAIN)
        done = self.toc("none.md", "stale.md", code=2)
        self.assertIn("none.md", done.stderr)
        self.assertEqual(self.get(stale), PLAIN_DONE)
        self.assertEqual(self.get(none), "## No markers\n\n```\n<!-- toc -->\n<!-- /toc -->\n```\n")
        self.assertEqual(self.get(fresh), PLAIN_DONE)
        self.toc("--check", "none.md", "fresh.md", code=2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
