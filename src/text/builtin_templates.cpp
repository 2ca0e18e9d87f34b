#include "builtin_templates.hpp"

#include <array>

namespace switchyard::text {
namespace {

struct Row {
  std::string_view name, source;
};

// Text only: a model that knows tools has a template of its own. Each is the form in which its family was trained.
constexpr std::array kTemplates = {
    Row{"chatml", R"({%- set open, shut = '<|im_start|>', '<|im_end|>\n' -%}
{%- for turn in messages %}{{ open + turn.role + '\n' + turn.content + shut }}{% endfor -%}
{{ open + 'assistant\n' if add_generation_prompt }})"},
    Row{"deepseek2",
        R"({%- set names = {'system': '', 'developer': '', 'user': 'User: ', 'assistant': 'Assistant: '} -%}
{{ bos_token }}
{%- for turn in messages -%}
{%- set name = names.get(turn.role, names.assistant) -%}
{{ name + turn.content + (eos_token if name == names.assistant else '\n\n') }}
{%- endfor -%}
{{ names.assistant.rstrip() if add_generation_prompt }})"},
    Row{"deepseek3",
        R"({%- set marks = {'system': '', 'developer': '', 'user': '<｜User｜>', 'assistant': '<｜Assistant｜>'} -%}
{{ bos_token }}
{%- for turn in messages -%}
{%- set mark = marks.get(turn.role, marks.assistant) -%}
{{ mark + turn.content + (eos_token if mark == marks.assistant else '') }}
{%- endfor -%}
{{ marks.assistant if add_generation_prompt }})"},
    Row{"deepseek4",
        R"({%- set marks = {'system': '', 'developer': '', 'user': '<｜User｜>', 'assistant': '<｜Assistant｜></think>'} -%}
{{ bos_token }}
{%- for turn in messages -%}
{%- set mark = marks.get(turn.role, marks.assistant) -%}
{{ mark + turn.content + (eos_token if mark == marks.assistant else '') }}
{%- endfor -%}
{{ marks.assistant.replace('/', '' if enable_thinking else '/') if add_generation_prompt }})"},
    Row{"glm4", R"([gMASK]<sop>
{%- for turn in messages -%}
<|{{ turn.role }}|>{{ '\n' + turn.content }}
{%- endfor -%}
{{ '<|assistant|>\n' if add_generation_prompt }})"},
    Row{"granite", R"({%- macro start(who) %}<|start_of_role|>{{ who }}<|end_of_role|>{% endmacro -%}
{%- for turn in messages -%}
{{ start(turn.role) + turn.content + '<|end_of_text|>\n' }}
{%- endfor -%}
{{ start('assistant') if add_generation_prompt }})"},
    Row{"harmony", R"({%- macro start(who) %}<|start|>{{ who }}<|message|>{% endmacro -%}
{{ start('system') + 'Knowledge cutoff: 2024-06' }}
{{ 'Current date: ' + strftime_now('%Y-%m-%d') }}

{{ 'Reasoning: ' + (reasoning_effort | default('medium')) }}

# Valid channels: {{ ['analysis', 'commentary', 'final'] | join(', ') }}. Channel must be included for every message.<|end|>
{%- for turn in messages -%}
{%- set kind = {'system': 'developer', 'developer': 'developer', 'user': 'user'}.get(turn.role, 'assistant') -%}
{{ start(kind + '<|channel|>final' if kind == 'assistant' else kind) }}
{{- ('# Instructions\n\n' if kind == 'developer' else '') + turn.content }}
{{- '<|return|>' if kind == 'assistant' and loop.last and not add_generation_prompt else '<|end|>' }}
{%- endfor -%}
{{ '<|start|>assistant' if add_generation_prompt }})"},
    Row{"kimi-k2", R"({%- macro start(who) %}<|im_{{ who }}|>{{ who }}<|im_middle|>{% endmacro -%}
{%- for turn in messages %}{{ start(turn.role) + turn.content + '<|im_end|>' }}{% endfor -%}
{{ start('assistant') if add_generation_prompt }})"},
    Row{"llama4", R"({%- macro start(who) %}<|header_start|>{{ who }}<|header_end|>{{ '\n\n' }}{% endmacro -%}
{{ bos_token }}
{%- for turn in messages %}{{ start(turn.role) + turn.content + '<|eot|>' }}{% endfor -%}
{{ start('assistant') if add_generation_prompt }})"},
    Row{"mistral-v1", R"({%- set rules = namespace(text='') -%}
{{ bos_token }}
{%- for turn in messages -%}
{%- if turn.role == 'system' %}{% set rules.text = turn.content + '\n\n' %}{% continue %}{% endif -%}
{{ ' [INST] ' + rules.text + turn.content + ' [/INST]' if turn.role == 'user' else ' ' + turn.content + eos_token }}
{%- set rules.text = '' if turn.role == 'user' else rules.text -%}
{%- endfor -%})"},
    Row{"mistral-v3", R"({%- set rules = namespace(text='') -%}
{{ bos_token }}
{%- for turn in messages -%}
{%- if turn.role == 'system' %}{% set rules.text = turn.content + '\n\n' %}{% continue %}{% endif -%}
{{ '[INST] ' + rules.text + turn.content + '[/INST]' if turn.role == 'user' else ' ' + turn.content + eos_token }}
{%- set rules.text = '' if turn.role == 'user' else rules.text -%}
{%- endfor -%})"},
    Row{"olmoe", R"({{- bos_token or eos_token }}
{%- for turn in messages -%}
<|{{ turn.role }}|>{{ '\n' + turn.content + (eos_token if turn.role == 'assistant' else '') + '\n' }}
{%- endfor -%}
{{ '<|assistant|>\n' if add_generation_prompt }})"},
    Row{"phi3", R"({%- for turn in messages -%}
<|{{ turn.role }}|>{{ '\n' + turn.content }}<|end|>{{ '\n' }}
{%- endfor -%}
{{ '<|assistant|>\n' if add_generation_prompt }})"},
};

}  // namespace

std::string_view builtin_template(std::string_view name) {
  for (const Row& row : kTemplates) {
    if (row.name == name) return row.source;
  }
  return {};
}

std::vector<std::string> builtin_template_names() {
  std::vector<std::string> names;
  for (const Row& row : kTemplates) names.emplace_back(row.name);
  return names;
}

}  // namespace switchyard::text
