"""Renders chat templates as Hugging Face transformers does, on a fixed day, and holds the conversations to try.

Used by make_chat_templates.py and tools/check_chat_templates.py. Needs transformers 5 and jinja2.
"""

import datetime
import json

from transformers.utils import chat_template_utils

DATE = "2024-07-26"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class FixedDay(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


chat_template_utils.datetime = FixedDay


def render(source, request, special=None):
    """The prompt, or the exception that rendering ended with."""
    request = json.loads(json.dumps(request))  # templates may not see what Python shares
    messages = request.pop("messages")
    tools = request.pop("tools", None)
    documents = request.pop("documents", None)
    generation = request.pop("add_generation_prompt", True)
    variables = {**(SPECIAL if special is None else special), **request}
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], tools=tools, documents=documents, chat_template=source,
            add_generation_prompt=generation, **variables)
        return rendered[0]
    except Exception as error:  # whatever Python raises, the template is refused
        return error


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place, now.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "City and country, \"Bern, CH\""},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            },
            "required": ["place"],
        },
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Looks for documents.\nSeveral words are all wanted.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "limit": {"type": "integer", "default": 10, "minimum": 1},
                "exact": {"type": "boolean"},
                "score": {"type": "number", "nullable": True},
                "tags": {"type": "array", "items": {"type": "string"}},
                "range": {
                    "type": "object",
                    "description": "From and to",
                    "properties": {"from": {"type": "string"}, "to": {"type": ["string", "null"]}},
                    "required": ["from"],
                },
                "kind": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "points": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}},
            },
            "required": ["query", "tags"],
        },
    },
}
BARE = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, identifier):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER_CALL = call("get_weather", {"place": "Bern, CH", "unit": "celsius"}, "call00001")
SEARCH_CALL = call("search", {"query": "caf\u00e9 \"au lait\"", "tags": ["a", "b"], "limit": 3, "exact": True, "score": None}, "call00002")


def tool(text, identifier="call00001", name="get_weather"):
    return {"role": "tool", "name": name, "tool_call_id": identifier, "content": text}


CONVERSATIONS = {
    "one-user": {"messages": [user("Hello!")]},
    "system": {"messages": [system("You are brief."), user("Who are you?")]},
    "turns": {"messages": [system("Be kind."), user("Hi"), assistant("Hello, how can I help?"), user("Tell a joke."),
                           assistant("Why did the expert cross the router? It was selected."), user("Another")]},
    "turns-without-system": {"messages": [user("1 + 1?"), assistant("2"), user("And 2 + 2?")]},
    "answered": {"messages": [user("1 + 1?"), assistant("2")]},
    "odd-text": {"messages": [system("  Spaces around  \n"), user("\n {{ braces }} {% tags %} <html> & 'quotes' \"\\\n"),
                              assistant("\tTabs\tand \u00fcml\u00e4uts \U0001f600\n\n"), user("\u4f60\u597d  ")]},
    "empty-system": {"messages": [system(""), user("Hi")]},
    "two-users": {"messages": [user("First"), user("Second")]},
    "no-messages": {"messages": []},
    "developer": {"messages": [{"role": "developer", "content": "Answer in verse."}, user("Why?")]},
    "unknown-role": {"messages": [user("Hi"), {"role": "observer", "content": "seen"}]},
    "content-list": {"messages": [{"role": "system", "content": [{"type": "text", "text": "Look closely."}]},
                                  {"role": "user", "content": [{"type": "text", "text": "What"},
                                                               {"type": "text", "text": " is it?"}]}]},
    "image": {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]},
    "tools": {"messages": [user("How is the weather in Bern?")], "tools": [WEATHER, SEARCH]},
    "tools-and-system": {"messages": [system("You may call tools."), user("How is the weather?")], "tools": [WEATHER, BARE]},
    "tool-call": {"messages": [user("Weather?"), assistant("", tool_calls=[WEATHER_CALL])], "tools": [WEATHER]},
    "tool-result": {"messages": [user("Weather?"), assistant("", tool_calls=[WEATHER_CALL]), tool('{"t": 21.5}')],
                    "tools": [WEATHER]},
    "tool-answer": {"messages": [system("Be brief."), user("Weather?"), assistant("I will look.", tool_calls=[WEATHER_CALL]),
                                 tool('{"t": 21.5}'), assistant("21.5 degrees."), user("Thanks!")], "tools": [WEATHER, SEARCH]},
    "two-calls": {"messages": [user("Both"), assistant(None, tool_calls=[WEATHER_CALL, SEARCH_CALL]), tool("sunny"),
                               tool("found it", "call00002", "search"), assistant("Sunny, and found."), user("Again"),
                               assistant("", tool_calls=[call("search", {"query": "x", "tags": []}, "call00003")]),
                               tool("nothing", "call00003", "search")], "tools": [WEATHER, SEARCH]},
    "calls-as-text": {"messages": [user("Weather?"),
                                   assistant("", tool_calls=[call("get_weather", '{"place": "Bern"}', "call00001")]),
                                   tool("rain")], "tools": [WEATHER]},
    "calls-without-content": {"messages": [user("Weather?"), {"role": "assistant", "tool_calls": [WEATHER_CALL]},
                                           {"role": "tool", "tool_call_id": "call00001", "content": "snow"}],
                              "tools": [WEATHER]},
    "tool-list-content": {"messages": [user("Weather?"), assistant("", tool_calls=[WEATHER_CALL]),
                                       {"role": "tool", "tool_call_id": "call00001",
                                        "content": [{"type": "text", "text": "hail"}]}], "tools": [WEATHER]},
    "plain-tools": {"messages": [user("Weather?")], "tools": [WEATHER["function"]]},
    "reasoning": {"messages": [user("1 + 1?"), assistant("2", reasoning_content="One and one are two."), user("And 2 + 2?"),
                               assistant("4", reasoning_content="Twice\ntwo."), user("Thanks")]},
    "reasoning-last": {"messages": [user("1 + 1?"), assistant("2", reasoning_content="One and one are two.")]},
    "reasoning-in-text": {"messages": [user("1 + 1?"), assistant("<think>\nEasy.\n</think>\n\n2"), user("And 2 + 2?"),
                                       assistant("<think>Also easy</think>4")]},
    "reasoning-and-call": {"messages": [user("Weather?"), assistant("", thinking="I need the tool.", tool_calls=[WEATHER_CALL]),
                                        tool("fog")], "tools": [WEATHER]},
    "no-thinking": {"messages": [user("Hi"), assistant("Hello", reasoning_content="Greet."), user("Bye")],
                    "enable_thinking": False, "thinking": False},
    "thinking": {"messages": [system("Think."), user("Hi")], "enable_thinking": True, "thinking": True},
    "thinking-with-tools": {"messages": [user("Weather?")], "tools": [SEARCH], "enable_thinking": True, "thinking": True},
    "effort": {"messages": [user("Hi")], "reasoning_effort": "high", "model_identity": "You are Switchy.",
               "builtin_tools": ["browser", "python"], "tools": [SEARCH]},
    "documents": {"messages": [user("What do they say?")],
                  "documents": [{"title": "One", "text": "It rains.", "doc_id": 1}, {"title": "Two", "text": "It snows.", "doc_id": 2}],
                  "citations": True, "controls": {"length": "short"}},
    "dates": {"messages": [system("Today?"), user("Hi")], "date_string": "1 Jan 2025", "tools_in_user_message": False,
              "tools": [WEATHER]},
}


def requests():
    """Every conversation with and without the opening of the answer."""
    for name, request in CONVERSATIONS.items():
        yield name, {**request, "add_generation_prompt": True}
        yield name + "-closed", {**request, "add_generation_prompt": False}
