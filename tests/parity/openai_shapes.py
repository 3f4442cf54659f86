"""Talks to the test servers as the official Python clients do, and prints what they parsed.

The test `record_what_the_official_clients_send_and_read` in tests/models/shapes.rs starts the
servers, runs this and writes tests/support/shapes/*.json. To record again, outside of the repository:

    python3 -m venv /tmp/official && /tmp/official/bin/pip install openai anthropic
    ORCAPACK_PYTHON=/tmp/official/bin/python \
        cargo test --test models record -- --ignored

Arguments: the addresses of the OpenAI and of the Anthropic server. Output: one JSON object. An answer
that the clients' own types refuse ends this with an error.
"""

import json
import sys

import anthropic
import openai
from anthropic.types import Message
from openai.types.chat import ChatCompletion

KEY = "sk-very-secret"


def parsed(model, raw):
    """The client itself is lenient; its types, asked directly, are not."""
    return model.model_validate_json(raw.http_response.text).model_dump(mode="json", exclude_unset=True)


def talk_openai(url):
    client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0)
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "again"},
    ]
    calls = [
        {"max_tokens": 64},
        {"max_completion_tokens": 64, "temperature": 0.5, "top_p": 0.9, "seed": 1},
        {"max_completion_tokens": 64, "prompt_cache_key": "conversation"},
    ]
    create = client.chat.completions.with_raw_response.create
    answers = [create(model="toy", messages=messages, **call) for call in calls]
    return [parsed(ChatCompletion, raw) for raw in answers]


def talk_anthropic(url):
    client = anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0)
    mark = {"cache_control": {"type": "ephemeral"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "hello", **mark}]},
        {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
        {"role": "user", "content": [{"type": "text", "text": "again", **mark}]},
    ]
    system = [{"type": "text", "text": "be brief", **mark}]
    create = client.messages.with_raw_response.create
    call = {"model": "toy", "max_tokens": 64, "system": system, "messages": messages}
    return [parsed(Message, create(**call)) for _ in range(2)]


def main():
    openai_url, anthropic_url = sys.argv[1:]
    print(json.dumps({
        "openai": {
            "client": "openai " + openai.__version__,
            "answers": talk_openai(openai_url),
        },
        "anthropic": {
            "client": "anthropic " + anthropic.__version__,
            "answers": talk_anthropic(anthropic_url),
        },
    }))


main()
