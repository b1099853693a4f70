"""Renders published chat templates with transformers' own Jinja environment: `python make_chat_template.py > cases.json`.

Needs transformers 5 (no torch). The templates: Qwen2.5-VL's processor template, Qwen2.5's tool template, imagent's nano
template, and a line that tries what Jinja in Python does differently.
"""
import json
import pathlib
from transformers.utils.chat_template_utils import render_jinja_template

VL = """{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}<|im_end|>
{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

TOOLS = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

ODD = r"""{% for m in messages[::-1] %}
  {% if m.content is string %}
{{ m.content.split('</think>')[-1].lstrip('\n').upper() }}|{{ m['content'].startswith('a') }}|{{ none }}
  {% endif %}
{% endfor %}
{{ messages[0] | tojson }}{{ messages | tojson(indent=2) }}{% for k, v in messages[0].items() %}{{ k }};{% endfor %}{{ messages | length }} {{ messages[0].get('nothing', 'x') }}
"""

NANO = (pathlib.Path(__file__).parents[3] / "models/src/nano_tokenizer/chat_template.jinja").read_text()

image = {"type": "image_url", "image_url": {"url": "a.png"}}
zoom = {"zeta": 1.0, "image": 2, "bbox_2d": [1, 2.5, 30, 1e-05], "alpha": {"é": "ü\n\u0001\"", "on": True, "no": None}, "big": 1e22}
tools = [
    {"type": "function", "function": {"name": "zoom_in", "description": "Größer “zoom”", "parameters": {"type": "object", "properties": {"z": {"type": "number"}, "a": {"enum": []}}, "required": ["z"]}}},
    {"type": "function", "function": {"name": "look_back", "parameters": {}}},
]
plain = [{"role": "user", "content": "hi"}]
seen = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Image 1:"}, image, {"type": "image"}, {"type": "text", "text": "What?"}]},
    {"role": "assistant", "content": "A <|im_end|> & <b>'quoted'</b>"},
]
called = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What digit?"},
    {"role": "assistant", "content": "I zoom.", "tool_calls": [{"type": "function", "function": {"name": "zoom_in", "arguments": zoom}}, {"name": "look_back", "arguments": {}}]},
    {"role": "tool", "content": "one"},
    {"role": "tool", "content": "two"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "zoom_in", "arguments": {"b": 1, "a": [True, None]}}}]},
    {"role": "tool", "content": "three"},
    {"role": "assistant", "content": "7"},
]
shown = called[:3] + [{"role": "tool", "content": [image, {"type": "text", "text": "Here."}]}, {"role": "assistant", "content": "8"}]

cases = []
for name, template, conversations, kits in [
    ("qwen2.5-vl", VL, [plain, seen], [None]),
    ("qwen2.5 tools", TOOLS, [plain, called], [None, tools]),
    ("nano", NANO, [plain, seen, called, shown], [None, tools]),
    ("odd", ODD, [[{"zebra": 1, "role": "user", "content": "abc</think>\n\nd", "apple": 2.0}, {"role": "x", "content": "1"}]], [None]),
]:
    for messages in conversations:
        for kit in kits:
            for prompt in (False, True):
                rendered, _ = render_jinja_template(
                    conversations=[messages], tools=kit, chat_template=template, add_generation_prompt=prompt, add_vision_id=prompt
                )
                case = dict(name=name, messages=messages, tools=kit, add_generation_prompt=prompt, add_vision_id=prompt, rendered=rendered[0])
                cases.append(case)
print(json.dumps({"templates": {"qwen2.5-vl": VL, "qwen2.5 tools": TOOLS, "nano": NANO, "odd": ODD}, "cases": cases}, ensure_ascii=False, indent=1))
