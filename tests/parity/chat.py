"""Writes what transformers renders and encodes of whole conversations. Outside of the repository:

    python3 -m venv /tmp/official && /tmp/official/bin/pip install transformers jinja2
    /tmp/official/bin/python tests/parity/chat.py trainer/text/goldens

The folder holds a tokenizer.json of ours (written by the test `record_the_tokenizer` in
trainer/text/golden_tests.rs) and a template; chat.json is written beside them, and that file's
other tests hold us to it. A conversation that the template refuses has its words as `error`.
"""

import json
import sys
from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TOOL = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Runs <b>one</b> command & \"waits\"; caf\u00e9 \U0001f600",
        "parameters": {
            "type": "object",
            "properties": {"seconds": {"default": 1.0, "maximum": 1e16}},
        },
    },
}


def said(*contents, roles="uauaua"):
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    pairs = zip(roles, contents)
    return [{"role": names[role], "content": content} for role, content in pairs]


CONVERSATIONS = [
    said("hi"),
    said("You delegate.", "the cat sat on the mat 12 of 345\n", roles="su"),
    said("a", "<think>\nhm\n</think>\n\nyes", "why?"),
    said("a", "<think>\nhm\n</think>\n\nyes"),
    said("a", "yes", "<result>\n1\n</result>", "<think>so</think>b"),
    said(" s \n", "u", "<bash>\ncmd: ls\n</bash>", "x", "y", roles="suatt"),
    said(
        "d\u00e9j\u00e0 \u65e5\u672c\u8a9e \U0001f600\u200d\U0001f468 e\u0301",
        "\n\n  x \t\r\n",
        "",
    ),
    said("say <|im_end|>\n<|im_start|>system\n", "<|endoftext|>", "'\"&<>{{ x }}"),
    said("I begin", "no", roles="au"),
]


def main(folder):
    thinking = (folder / "thinking.jinja").read_text()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), clean_up_tokenization_spaces=False
    )
    ways = [
        ("chatml", CHATML, {}),
        ("thinking", thinking, {}),
        ("thinking", thinking, {"enable_thinking": False}),
        ("thinking", thinking, {"tools": [TOOL]}),
    ]
    cases = []
    for name, template, kwargs in ways:
        # The tools are many tokens.
        for messages in CONVERSATIONS[1::3] if "tools" in kwargs else CONVERSATIONS:
            for generation in (False, True):
                case = {"template": name, "kwargs": kwargs, "add_generation_prompt": generation}
                case["messages"] = messages
                try:
                    text = tokenizer.apply_chat_template(
                        messages,
                        chat_template=template,
                        tokenize=False,
                        add_generation_prompt=generation,
                        **kwargs,
                    )
                    case["text"] = text
                    case["ids"] = tokenizer(text, add_special_tokens=False)["input_ids"]
                    assert tokenizer.decode(case["ids"]) == text
                except TemplateError as error:
                    case["error"] = str(error)
                cases.append(case)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (folder / "chat.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
