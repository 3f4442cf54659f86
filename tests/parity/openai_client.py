"""The OpenAI client for Python against a running `orcapack serve`.

Needs `pip install openai`. Starts the server by itself, over any policy's directory with a context
of at least 256 tokens:

    python tests/parity/openai_client.py target/debug/orcapack POLICY_DIRECTORY
"""

import subprocess
import sys
import unittest

import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion

MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
KEY = "sk-of-the-server"


class Client(unittest.TestCase):
    """One server for all tests."""

    program, policy = None, None

    @classmethod
    def setUpClass(cls):
        command = [cls.program, "serve", cls.policy, "--listen", "127.0.0.1:0", "--name", "tiny"]
        command += ["--slots", "4", "--queue", "16", "--api-key-env", "SERVE_KEY"]
        cls.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"SERVE_KEY": KEY})
        line = cls.server.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http://")).rstrip(":")
        cls.client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.terminate()
        assert cls.server.wait(timeout=30) == 0
        cls.server.stdout.close()

    def chat(self, **more):
        asked = {"model": "tiny", "messages": MESSAGES, "max_completion_tokens": 12, "seed": 7}
        return self.client.chat.completions.create(**{**asked, **more})

    def complete(self, **more):
        asked = {"model": "tiny", "prompt": "hello", "max_tokens": 12, "seed": 7}
        return self.client.completions.create(**{**asked, **more})

    def test_models(self):
        models = self.client.models.list().data
        self.assertEqual([model.id for model in models], ["tiny"])
        self.assertEqual(self.client.models.retrieve("tiny").object, "model")

    def test_chat(self):
        answer = self.chat(n=2, temperature=0.8, top_p=0.9)
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])
        for choice in answer.choices:
            self.assertEqual(choice.message.role, "assistant")
            self.assertIn(choice.finish_reason, ["stop", "length"])
        usage = answer.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertGreaterEqual(usage.prompt_tokens_details.cached_tokens, 0)

    def test_types_are_openai_s(self):
        """The client itself is lenient; its types, asked directly, are not."""
        chat = self.client.chat.completions.with_raw_response.create(
            model="tiny", messages=MESSAGES, max_completion_tokens=4, logprobs=True, top_logprobs=1
        )
        ChatCompletion.model_validate_json(chat.http_response.text, strict=True)
        completion = self.client.completions.with_raw_response.create(
            model="tiny", prompt="hello", max_tokens=4, logprobs=1
        )
        Completion.model_validate_json(completion.http_response.text, strict=True)

    def test_chat_streamed_is_the_whole_one(self):
        whole = self.chat(logprobs=True, top_logprobs=3)
        stream = self.chat(
            logprobs=True, top_logprobs=3, stream=True, stream_options={"include_usage": True}
        )
        text, logprobs, finish, usage = "", [], None, None
        for chunk in stream:
            self.assertEqual(chunk.object, "chat.completion.chunk")
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                logprobs += choice.logprobs.content if choice.logprobs else []
                finish = choice.finish_reason or finish
        choice = whole.choices[0]
        self.assertEqual(text, choice.message.content)
        self.assertEqual(logprobs, choice.logprobs.content)
        self.assertEqual(finish, choice.finish_reason)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)
        for token in choice.logprobs.content:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(len(token.top_logprobs), 3)

    def test_stream_helper(self):
        with self.client.chat.completions.stream(
            model="tiny", messages=MESSAGES, max_completion_tokens=12, seed=7
        ) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        self.assertEqual(final.choices[0].message.content, self.chat().choices[0].message.content)

    def test_completions(self):
        answer = self.complete(logprobs=2)
        choice = answer.choices[0]
        self.assertEqual(answer.object, "text_completion")
        counts = {len(choice.logprobs.tokens), len(choice.logprobs.token_logprobs)}
        counts |= {len(choice.logprobs.top_logprobs), len(choice.logprobs.text_offset)}
        self.assertEqual(counts, {answer.usage.completion_tokens})
        streamed = "".join(
            choice.text for chunk in self.complete(stream=True) for choice in chunk.choices
        )
        self.assertEqual(streamed, choice.text)

    def test_token_ids_as_vllm_has_them(self):
        more = {"return_token_ids": True}
        answer = self.complete(prompt=[[5, 6], [7]], extra_body=more)
        prompts = [choice.prompt_token_ids for choice in answer.choices]
        self.assertEqual(prompts, [[5, 6], [7]])
        self.assertTrue(all(choice.token_ids for choice in answer.choices))

    def test_errors(self):
        cases = [
            (openai.NotFoundError, "model_not_found", {"model": "gpt-5"}),
            (openai.BadRequestError, "invalid_value", {"temperature": 3}),
            (openai.BadRequestError, "unsupported_parameter", {"logit_bias": {"5": 1}}),
            (openai.BadRequestError, "unsupported_parameter", {"response_format": {"type": "json_object"}}),
            (
                openai.BadRequestError,
                "context_length_exceeded",
                {"messages": [{"role": "user", "content": "task " * 200_000}]},
            ),
        ]
        for kind, code, more in cases:
            with self.assertRaises(kind) as raised:
                self.chat(**more)
            self.assertEqual(raised.exception.code, code)
        stranger = openai.OpenAI(base_url=self.client.base_url, api_key="sk-other", max_retries=0)
        with stranger, self.assertRaises(openai.AuthenticationError):
            stranger.models.list()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    Client.policy, Client.program = sys.argv.pop(), sys.argv.pop()
    unittest.main()
