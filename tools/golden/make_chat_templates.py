#!/usr/bin/env python3
"""Makes tests/golden/chat_templates: what transformers renders, for the tests of Switchyard's template interpreter.

    python tools/golden/make_chat_templates.py

language.json has small templates for every construct of the language with what they print, or null where transformers
refuses. requests.json has the conversations, and expected.json what each template of the folder makes of them. The
templates were written for this test: they have the control tokens of the families that they are named after, with words
and code of their own, and between them use the constructs that published templates use. Needs the packages of
requirements.txt and jinja2.
"""

import json
import pathlib

import chat_reference

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "chat_templates"

VARIABLES = {
    "d": {"items": 3, "a": 1, "b": {"c": [1, 2, {"x": None}]}, "": "empty"},
    "l": [3, 1, 2],
    "people": [{"name": "Bo", "age": 3, "home": {"town": "Ur"}}, {"name": "al", "age": 30}, {"name": "Cy", "age": 3}],
    "s": "Hello, World",
    "u": "na\u00efve \u4f60\u597d \U0001f600 \u00df",
    "n": None, "t": True, "f": False, "i": 7, "x": 2.5,
}

SNIPPETS = r"""
{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}
{% macro m() %}{{ y }}{% endmacro %}{% set y = 3 %}{{ m() }}
{% for i in [1] %}{% set y=1 %}{% if true %}{% set y = 2 %}{% endif %}{{y}}{% endfor %}{{y}}
{{ {'a':1}.pop('a') }}
{{ d['items'] }} {{ d.items() }} {{ d.keys() }} {{ d.values() | list }}
{{ d | items | list }} {{ nothing | items | list }}
{{ d.b.c[2].x }} {{ d.b.missing }} {{ d['nope'] is defined }}
{{ d.b.missing.more }}
{{ nothing.more }}
{{ nothing['more'] }}
{{ nothing }}|{{ nothing | length }}|{{ nothing | list }}|{{ nothing | join(',') }}|{{ nothing | trim }}|{{ nothing | string }}
{{ nothing | int }}
{{ nothing + 1 }}
{{ 1 + nothing }}
{{ nothing ~ 'a' }}
{{ nothing < 1 }}
{{ nothing == other }} {{ nothing != 1 }} {{ nothing in [1] }} {{ 1 in nothing }} {{ not nothing }}
{{ nothing() }}
{{ -nothing }}
{% for a in nothing %}x{% else %}none{% endfor %}
{% for a in n %}x{% endfor %}
{% for a in 5 %}x{% endfor %}
{{ 1.0 }} {{ 1e16 }} {{ 1e15 }} {{ 1/3 }} {{ 7//2 }} {{ -7//2 }} {{ -7%3 }} {{ 7%-3 }} {{ 2**-1 }} {{ 2**0.5 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1.5e300*1e10 }}
{{ 7.5 // 2 }} {{ -7.5 // 2 }} {{ 7.5 % 2 }} {{ -7.5 % 2 }} {{ 2 ** 10 }} {{ 2.0 ** 3 }} {{ 10 / 5 }} {{ 6 * 7 }} {{ 100000000000000000000.0 }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ 1_000 + 0x1f + 0o17 + 0b101 }} {{ 1_0.5 }} {{ 1e3 }} {{ 1E-2 }}
{{ 'a\nb' }} {{ ['a\nb', 'it\'s', "\"", "it's \"both\"", '\x07\u00e9\u200b\u3000\U0001f600'] }}
{{ '\N{BULLET}\q\101\t' }}{{ "a" 'b' }}
{{ '\ud800' }}
{{ '\xZZ' }}
{{ (1,) }} {{ (1,2) }} {{ () }} {{ {} }} {{ [] }} {{ {1:2,'a':none, 2.5: true} }} {{ [1,2,] }}
{{ {1: 'a', 1.0: 'b', true: 'c'} }} {{ {'b':1,'a':2,'b':3} }}
{{ 'abc' is sequence }} {{ {} is sequence }} {{ {} is iterable }} {{ 3 is iterable }} {{ true is number }} {{ true is integer }} {{ 1.5 is float }} {{ 'a' is iterable }} {{ nothing is iterable }} {{ n is iterable }}
{{ s is string }} {{ l is string }} {{ d is mapping }} {{ l is mapping }} {{ n is none }} {{ nothing is none }} {{ t is true }} {{ 1 is true }} {{ f is false }} {{ t is boolean }} {{ i is integer }} {{ x is float }} {{ i is number }}
{{ 5 is divisibleby 5 }} {{ 5 is even }} {{ 5 is odd }} {{ 'x' is in 'xyz' }} {{ 1 is eq 1 }} {{ 1 is ne 1 }} {{ 2 is gt 1 }} {{ 2 is ge(2) }} {{ 1 is lessthan 2 }} {{ 1 is le 0 }} {{ nothing is not defined }} {{ 'a' is equalto 'a' }} {{ n is sameas n }}
{{ 'ABC' is upper }} {{ 'abc' is lower }} {{ 'Abc' is lower }} {{ range is callable }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ 'nope' is filter }}
{{ 1 is unknowntest }}
{{ 1 | unknownfilter }}
{% if false %}{{ 1 | unknownfilter }}{% endif %}ok
{{ '%s is %d and %5.2f|%-6s|%06d|%x|%%' % ('a', 3, 2.5, 'b', 42, 255) }} {{ '%s' | format('x') }} {{ '%(a)s' % {'a': 5} }} {{ '%s' % 1 }} {{ '%r' % 'q' }}
{{ '%d' % 'a' }}
{{ '%s %s' % ('a',) }}
{{ 'x {} {a} {:>5}|{:05.1f}|{:,}|{:<4}|{:^5}|{:+d}|{:x}|{:.3}'.format(1, 'ab', 2.25, 1234567, 'l', 'm', 5, 255, 'abcdef', a='z') }}
{{ '{0} {1} {0} {2.a} {2[b]} {{}} {0!r}'.format('p', 2, {'a': 1, 'b': 2}) }}
{{ 'x {} {0}'.format(1) }}
{{ '{}'.format() }}
{{ '{:d}'.format('a') }}
{{ 'abc'[::-1] }} {{ [1,2,3][::2] }} {{ 'abc'[5] }} {{ 'abc'[-1] }} {{ 'abcdef'[1:4] }} {{ 'abcdef'[-3:] }} {{ l[1:] }} {{ l[:-1] }} {{ l[10:] }} {{ (1,2,3)[1:] }} {{ 'abc'[::-2] }} {{ l[-1] }} {{ l[7] is defined }} {{ l['0'] is defined }}
{{ u[6] }} {{ u[6:8] }} {{ u[::-1] }} {{ u | length }} {{ u[-1] }} {{ u.find('\u597d') }} {{ u | upper }} {{ u | reverse }}
{{ 'abc'[::0] }}
{{ n[1:] is defined }} {{ d.b.c[1:] }}
{{ nothing[1:] }}
{{ 1 if false }}|{{ (1 if false) is defined }}|{{ 1 if false else 2 if false else 3 }}
{{ 'a' ~ none ~ true ~ 1.5 ~ [1,'x'] ~ {'k': nothing} }}
{{ 'hello world-foo (bar' | title }} {{ 'hELLO wORLD' | capitalize }} {{ 'hello wOrld x2y' .title() }} {{ 'aBc'.swapcase() }} {{ '\u00dfx'.upper() }} {{ '\u01c6x' | capitalize }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'abc' }} {{ 'z' not in 'abc' }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1] < [2] }} {{ none == none }} {{ [1,2] == [1,2] }} {{ (1,2) == [1,2] }} {{ {'a':1} == {'a':1.0} }} {{ 'B' < 'a' }} {{ 1 in {1: 2} }} {{ 'a' in d }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ ({'b':1,'a':2}) | dictsort }} {{ {'b':1,'a':2} | dictsort(by='value') }} {{ {'b':1,'A':2} | dictsort(reverse=true) }} {{ ['b','A','c'] | sort }} {{ [3,1,2] | sort(reverse=true) }} {{ ['a','B','b'] | unique | list }} {{ ['b','A'] | sort(case_sensitive=true) }}
{{ people | sort(attribute='age,name') | map(attribute='name') | list }} {{ people | map(attribute='home.town', default='?') | list }} {{ people | sum(attribute='age') }} {{ people | groupby('age') | map('first') | list }}
{{ people | selectattr('age', 'equalto', 3) | map(attribute='name') | join('/') }} {{ people | rejectattr('home') | list | length }} {{ people | selectattr('home', 'defined') | first }}
{{ l | select('odd') | list }} {{ l | reject('odd') | list }} {{ l | select | list }} {{ ['a',''] | select | list }} {{ l | map('string') | join('-') }} {{ n | selectattr('a') | list }} {{ [1,none] | reject('none') | list }}
{{ [1, 'a'] | sort }}
{{ {'a':[1,2.0,none,true,'\u00e9<>&"\'\u2028\x01\x7f\\/']} | tojson }} {{ {'a':{'b':[]},'c':[1,{}]} | tojson(indent=2) }}
{{ [1,2] | tojson(separators=(',',':')) }} {{ {'b':1,'a':2} | tojson(sort_keys=true) }} {{ {1:2, none:3, true: 4, 2.5: 5} | tojson }} {{ u | tojson(ensure_ascii=true) }} {{ {'a':1} | tojson(indent='--') }} {{ (1,2) | tojson }} {{ {'a': [1]} | tojson(indent=0) }}
{{ nothing | tojson }}
{{ l | select | tojson }}
{{ 1e400 | tojson }}
{{ 'a' | indent }} {{ 'a\nb\n\nc' | indent(2) }}|{{ 'a\nb\n\nc' | indent(2,true) }}|{{ 'a\nb\n\nc' | indent(2,true,true) }}|{{ 'a\nb' | indent('> ') }}|{{ 'a\nb\n' | indent(width=1, first=true) }}
{{ '<a>' | e }} {{ ('<a>' | e) + '<' }} {{ ('<a>' | safe) ~ '<' }} {{ ('<a>' | safe) + '<' }} {{ '"\'&' | escape }}
{% for k, v in {'a':1}.items() %}{{k}}{{v}}{% endfor %} {% for k in {'a':1} %}{{k}}{% endfor %} {% for c in 'h\u00e9' %}[{{c}}]{% endfor %} {% for a, (b, c) in [(1, (2, 3))] %}{{a}}{{b}}{{c}}{% endfor %}
{% for a, b in [(1,2,3)] %}{% endfor %}
{{ [1,2,3] | batch(2) | list }} {{ [1,2,3] | batch(2, 0) | list }} {{ [1,2,3] | slice(2) | list }} {{ 'a b  c_d-e' | wordcount }}
{% for v in [1,2,3] if v != 2 %}{{ loop.index }}{{loop.length}}{{ loop.last }}{% else %}none{% endfor %} {% for v in [1,2,3] if v > 5 %}x{% else %}none{% endfor %}
{% for a in [1,2] %}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('x','y') }}{{ loop.changed(a) }}{{loop.depth}}{{loop.revindex0}}{{loop.revindex}}{{loop.first}}{{loop.index0}}{% endfor %}
{% for a in [1,2] %}{% for b in [3] %}{{ loop.depth }}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}{{ loop is defined }}
{% for i in range(5) %}{% if i==1 %}{% continue %}{% endif %}{% if i==3 %}{% break %}{% endif %}{{i}}{% else %}e{% endfor %}
{% set ns = namespace(c=0) %}{% for i in range(4) if ns.c < 2 %}{% set ns.c = ns.c + 1 %}{{ i }}{{ loop.last }}{% endfor %}{{ ns.c }}
{% set ns = namespace(c=0) %}{% for i in range(4) if ns.c < 2 %}{% set ns.c = ns.c + 1 %}{{ i }}{% endfor %}{{ ns.c }}
{{ 'a,b'.split(',') }} {{ ' a  b '.split() }} {{ 'a\nb\r\nc'.splitlines() }} {{ 'a-b-c'.rsplit('-',1) }} {{'abc'.partition('b')}} {{ 'abc'.rpartition('x') }} {{ 'a b c'.split(' ', 1) }} {{ ' a b c '.split(none, 1) }} {{ ' a b c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'aXXbXX'.split('XX') }} {{ 'aaa'.rsplit('aa') }} {{ 'a\n\nb'.splitlines(true) }}
{{ 'a'.split('') }}
{{ '  xx '.strip() }}|{{ '  xx '.lstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy'.rstrip('yx') }}|{{ '\n a\t\u3000'.strip() }}|{{ ' q ' | trim }}|{{ 'aqa' | trim('a') }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x','c')) }} {{ 'abc'.startswith('b', 1) }} {{ 'abc'.find('c') }} {{ 'abc'.find('z') }} {{ 'abcabc'.rfind('b') }} {{ 'abcabc'.index('c') }} {{ 'aXbX'.count('X') }} {{ 'abc'.count('') }} {{ 'abc'.find('', 3) }} {{ 'abc'.find('', 4) }} {{ 'abab'.find('b', -2) }}
{{ 'abc'.index('z') }}
{{ 'foo'.replace('o','a') }} {{ 'foo'.replace('o','a',1) }} {{ 'foo' | replace('o','0',1) }} {{ 'ab'.replace('','-') }} {{ 'x'.join(['a','b']) }} {{ 'ab'.upper() }} {{ 'AB'.lower() }} {{ 'ab'.capitalize() }} {{ 'a'.isalpha() }} {{ '1'.isdigit() }} {{ ' '.isspace() }} {{ 'a1'.isalnum() }} {{ 'Ab'.isupper() }} {{ '\u00b2'.isdigit() }} {{ '\u00bd'.isnumeric() }} {{ ''.isalpha() }}
{{ 'a'.join([1]) }}
{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'a'.ljust(3,'.') }}| {{ 'a'.rjust(3) }} {{ 'a'.center(4,'*') }} {{ 'ab' | center(5) }}| {{ 'xay'.removeprefix('x').removesuffix('y') }}
{{ ['a',1,none]|join('-') }} {{ [1,2].index(2) }} {{ [1,1].count(1) }} {{ [[1,2]] | first | last }} {{ ''|first }}| {{ {'a':1}|list }} {{ 'abc'|list }} {{ {'a':1}|first }} {{ [1,2]|reverse|list }} {{ [1, 2, 3] | sum }} {{ [1,2]|min }} {{ []|max }}| {{ ['b','A']|min }} {{ [[1],[2]] | sum(start=[]) }}
{{ 10 | string + 'a' }} {{ -3|abs }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.567|round(2) }} {{ 2.1|round(0,'ceil')|int }} {{ 5|round }} {{ 0.125|round(2) }}
{{ 'abc' * 2 }} {{ [1]*2 }} {{ [1]+[2] }} {{ (1,)+(2,) }} {{ 2 * 'x' }} {{ 'a' * -1 }}|
{{ 'a' + 1 }}
{{ [1] + (2,) }}
{{ 'a' - 'b' }}
{{ '10'|int + 1 }} {{ 'x'|int(5) }} {{ '1.5'|float }} {{ '0x1f'|int(base=16) }} {{ 3.9|int }} {{ ' 42 '|int }} {{ '1_000'|int }} {{ '3.7'|int }} {{ none|int }} {{ 'z'|float }} {{ true|int }} {{ '-5'|int }} {{ [] | int }}
{{ 5|default(1) }} {{ ''|default('q', true) }} {{ none|default('z') }} {{ nothing|default('d') }} {{ nothing|d }}| {{ d.zz|default(d.a) }}
{{ strftime_now('%d %b %Y, %A %H:%M %j') }} {{ strftime_now('%-d/%-m') }}
{{ raise_exception('no') }}
{% set ns = namespace(a=1) %}{% set ns.b = 2 %}{{ ns.a + ns.b }}{{ ns.c }}{% for i in l %}{% set ns.a = i %}{% endfor %}{{ ns.a }}
{% set q.a = 1 %}
{% set ns = namespace({'k': 1}, m=2) %}{{ ns.k }}{{ ns.m }}{{ ns['m'] }}
{% set ns = namespace(_a=1) %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set (e, g) = [5, 6] %}{{ e }}{{ g }}
{% set 1 = 2 %}
{{ not none }} {{ 3 // 2 * 2.0 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 1 - -1}} {{ 5 % 3.5 }} {{ not 1 == 2 }} {{ 1 + 2 * 3 - 4 / 2 }} {{ 'a' ~ (1 + 2) }} {{ (1 + 2) * 3 }} {{ +5 }} {{ 1 or 2 }} {{ 0 or '' or 'z' }} {{ 1 and 0 }} {{ none and 1 }} {{ not (1 and 0) or 0 }}
{% filter upper %}a{{ 'b' }}{% endfilter %}{% set z | upper %}q{% endset %}{{ z }}{% filter replace('a', 'b') | trim %} aa {% endfilter %}
{{ 'a' ~ 1 + 2 }}
{% with a=1, b=2 %}{{a+b}}{% endwith %}{{a}}{% set a = 5 %}{% with a = a + 1, b = a %}{{ a }}{{ b }}{% endwith %}
{% generation %}abc{% set q = 1 %}{% endgeneration %}d{{ q }}
{% macro foo(a, b=2) %}{{a}}{{b}}{{ varargs }}{{ kwargs }}{% endmacro %}{{ foo(1,2,3,c=4) }}{{ foo() }}{{ foo(b=1, a=0) }}{{ foo(*[7,8]) }}{{ foo(**{'a': 9}) }}
{% macro foo(a) %}{{ a }}{% endmacro %}{{ foo(1, 2) }}
{% macro foo(a) %}{{ a }}{% endmacro %}{{ foo(b=2) }}
{% macro foo(a) %}{{ a }}{% endmacro %}{{ foo(1, a=2) }}
{% macro foo(a) %}{{ a.b }}{% endmacro %}{{ foo() }}
{% macro foo(a, b=a) %}{{ b }}{% endmacro %}{{ foo(3) }} {% macro deep(k) %}{% if k > 0 %}{{ k }}{{ deep(k - 1) }}{% endif %}{% endmacro %}{{ deep(5) }} {{ foo.name }}
{% macro foo(a) %}[{{ caller(a) }}]{% endmacro %}{% call(x) foo(1) %}{{x}}b{% endcall %}
{% macro foo() %}[{{ caller() }}]{% endmacro %}{% set k = 4 %}{% call foo() %}{{ k }}{% endcall %}
{% macro foo() %}{% for i in [1,2] %}{{ i }}{% set v = i %}{% endfor %}{{ v }}{% endmacro %}{{ foo() | length }}
{% for i in [1,2] %}{% macro im() %}{{ i }}{% endmacro %}{{ im() }}{% endfor %}
{% call foo(1) %}x{% endcall %}
{{ range(3) | list }} {{ range(1, 7, 2) | list }} {{ range(3, 0, -1) | list }} {{ range(4)[1] }} {{ range(3) }} {{ 2 in range(3) }} {{ range(5) | length }} {{ range(5)[1:3] | list }}
{{ range(1000000) | length }}
{{ dict(a=1, **{'b':2}) }} {{ dict([('a',1)]) }} {{ dict({'x': 1}, y=2) }} {{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b') }} {{ {'a': 1}.get('b', 5) }} {{ {'a': 1}.copy() }}
{% set j = joiner('|') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %} {% set c = cycler('a','b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.reset() }}
{{ 'a b/c?' | urlencode }} {{ 'abcdefghijkl' | truncate(8, true) }} {{ 'hello brave new world' | truncate(12) }} {{ 'foo bar' | truncate(5) }}
{{ s | length }} {{ s | count }} {{ s.lower() | replace('l', 'L') | upper }} {{ s | list | last }} {{ (s | upper)[0] }} {{ s|lower is string }} {{ s | attr('upper') is callable }} {{ d | attr('a') is defined }}
{{ [1,2,3].__class__ }}|{{ ''.__class__ is defined }}
{{ ''.__class__.__mro__ }}
{{ {'a': 1}.a }} {{ {'a': {'b': 2}}.a.b }} {{ {'a b': 1}['a b'] }} {{ d[''] }} {{ {'get': 1}['get'] }} {{ l.0 }} {{ people[0].home.town }} {{ people.0.name }}
{{ s.nope }}|{{ l.nope }}|{{ n.nope is defined }}|{{ i.nope is defined }}
{{ s.nope.x }}
{{ 'a' if 1 else }}
{{ 1 + }}
{{ (1 }}
{{ [1, 2 }}
{{ 1 2 }}
{% if %}x{% endif %}
{% if true %}x
{% for x in l %}x
{% endif %}
{% unknown %}
{{ 'abc }}
{# never closed
{% raw %}{{ x }}
{% raw %}{{ x }}{% endraw %}!
{% break %}
{{ a.b. }}
{{ 1 is defined is defined }}
{% set x %}a
{% macro (a) %}{% endmacro %}
{% macro f(a=1, b) %}{% endmacro %}
{{ f(a=1, 2) }}
{{ $ }}
{{ } }}
{%- if true -%}  a  {%- else -%} b {%- endif -%}  c
"""

MULTILINE = [
    "{% set block %}  x {{ i }}\n{% endset %}[{{ block }}]",
    "\n  {% if true %}\n  a\n  {% endif %}\n b {%- if true %} c {% endif -%} \n d\n\n",
    "{# a #}\nx {#- b -#} y\n  {# c #}  \nz",
    "  {{ 1 }}\n  {%+ if true %}x{% endif +%}\ny",
    "{% raw %}{{ x }}{% endraw %}\nz",
    "  {% raw -%}\n {{ x }}\n  {%- endraw %}\nz",
    "a\r\nb\rc\n{{ 'x\r\ny' }}\r\n",
    "\t {%- for i in [1, 2] %}\n\t{{ i }}\n\t{%- endfor %}\n",
    "  {% for i in [1, 2] -%}\n  {{ i }}\n  {% endfor %}\n  end  \n",
    "{{- ' a ' -}}\n\n  b\n{{ 'c' }}\n\nd",
    "{%- set x = 1 %}\n\n{%- set y = 2 %}\n{{ x }}{{ y }}\n",
    "{% set x = [\n  1,\n  2,\n] %}{{\n  x\n  | join(\n    '-'\n  )\n}}",
    "line\n{{ 'one' }} {% if true %} two {% endif %}\n   {% if true %}three{% endif %}   \nfour\n\n",
    "{% if true %}\n\n{% endif %}\n\n\n",
    "\u3000{%- if true %}x{% endif -%}\u2003y",
    "{{ '{{' }}{{ '}}' }}{{ '%}' }}{% set a = '%}' %}{{ a }}",
    "{{ {'a': {'b': {}}} }}{{ {'a': {'b': 1}}}}",
]


def snippets():
    for line in SNIPPETS.strip("\n").split("\n"):
        yield line
    yield from MULTILINE


def main():
    language = []
    for source in snippets():
        found = chat_reference.render(source, {"messages": [], **VARIABLES})
        refused = isinstance(found, Exception) or any("\ud800" <= c <= "\udfff" for c in found)  # no text
        language.append({"template": source, "text": None if refused else found})
    write("language.json", {"variables": VARIABLES, "cases": language})
    write("requests.json", {"special": chat_reference.SPECIAL, "date": chat_reference.DATE,
                            "requests": chat_reference.CONVERSATIONS})
    expected = {}
    for template in sorted(FOLDER.glob("*.jinja")):
        source = template.read_text(encoding="utf-8")
        expected[template.stem] = {}
        for name, request in chat_reference.requests():
            found = chat_reference.render(source, request)
            expected[template.stem][name] = None if isinstance(found, Exception) else found
        refused = [name for name, text in expected[template.stem].items() if text is None]
        print(f"{template.name}: {len(expected[template.stem])} conversations, {len(refused)} refused")
    write("expected.json", expected)


def write(name, value):
    (FOLDER / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
