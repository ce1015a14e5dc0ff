"""Chat templates in the manner of model families, with the control tokens that each of them writes."""

_OPEN = "{% if add_generation_prompt %}"

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    + _OPEN
    + "<|im_start|>assistant\n{% endif %}"
)
TEXT = (
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
)
TOOLS = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n" + TEXT + "{% for c in m.tool_calls or [] %}\n<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}" + _OPEN + "<|im_start|>assistant\n{% endif %}"
)
HEADERS = (
    "<s>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}" + _OPEN + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
INST = (
    "<s>{% for m in messages %}{% if m.role in ['user', 'system', 'tool'] %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
CLOSE_INST = INST.replace("[/INST]{% else %} {{", "[/INST]{% else %}{{").replace("[INST] {{", "[INST]{{")
ROLES = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    + _OPEN
    + "<|assistant|>\n{% endif %}"
)
EOS_ROLES = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    + _OPEN
    + "{{ '<|assistant|>\n' }}{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}" + _OPEN + "<start_of_turn>model\n{% endif %}"
)
WIDE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}<\uff5cAssistant\uff5c>{{ m.content }}</s>"
    "{% else %}<\uff5cUser\uff5c>{{ m.content }}{% endif %}{% endfor %}" + _OPEN + "<\uff5cAssistant\uff5c>{% endif %}"
)
DATED = (
    "<|start_of_role|>system<|end_of_role|>Today is {{ strftime_now('%d %B %Y %H:%M:%S') }}.</s>\n"
    "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}</s>\n{% endfor %}"
    + _OPEN
    + "<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ m.role | capitalize }}: {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}"
    "{% endif %}\n{% endfor %}" + _OPEN + "Assistant:{% endif %}"
)
GENERATION = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|bot|>{% generation %}{{ m.content }}<|stop|>"
    "{% endgeneration %}{% else %}<|human|>{{ m.content }}<|stop|>{% endif %}{% endfor %}"
    + _OPEN
    + "<|bot|>{% endif %}"
)
TEMPLATES = {
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>")),
    "tools": (TOOLS, ("<|im_start|>", "<|im_end|>")),
    "headers": (HEADERS, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "inst": (INST, ("[INST]", "[/INST]")),
    "close_inst": (CLOSE_INST, ("[INST]", "[/INST]")),
    "plain_inst": (INST, ()),
    "roles": (ROLES, ("<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|end|>")),
    "eos_roles": (EOS_ROLES, ("<|user|>", "<|assistant|>", "<|system|>", "<|tool|>")),
    "turns": (TURNS, ("<start_of_turn>", "<end_of_turn>")),
    "wide": (WIDE, ("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>")),
    "dated": (DATED, ("<|start_of_role|>", "<|end_of_role|>")),
    "plain": (PLAIN, ()),
    "generation": (GENERATION, ("<|bot|>", "<|human|>", "<|stop|>")),
}
"""Source and control tokens by name; ``</s>`` and ``<s>`` are every tokenizer's."""
