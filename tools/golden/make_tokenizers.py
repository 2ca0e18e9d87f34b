#!/usr/bin/env python3
"""Writes the tokenizer fixtures under tests/golden/tokenizers/.

    tools/golden/make_tokenizers.py [FOLDER]

Each folder holds a small tokenizer, trained here on the texts below, with the kind of pre-tokenizer, normaliser, model
and decoder that published models have, and expected.json: for every text of texts.json the ids and the decoded text that
the reference library gives. The reference is the Hugging Face tokenizers library, for tiktoken files the tiktoken library
and for tokenizer.model the sentencepiece library. real.json has the ids of published tokenizers that are too large to lie
here; it is written where their folders are given:

    tools/golden/make_tokenizers.py FOLDER qwen3=PATH deepseek_v3=PATH grok-1=PATH

Made with tokenizers 0.23.3, tiktoken 0.14.0 and sentencepiece 0.2.3 on Python 3.11.
"""

import base64
import io
import json
import os
import random
import shutil
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PROSE = """The router sends every token to its experts, and some experts learn to read rivers while others read code.
Balance the load of layers; it's shared between 12 and 365 of them, isn't it? We'll see: they've said they'd come, I'm
sure you're right. It costs $3.50 (or 10,000 yen) at 7:45 on 2024-01-31!\n\n
    def balance(load, experts=8):\r\n\tif load[0] != 1.5e-3 and not experts:\n\t\treturn {"a": [1, 2]}\n    # comment
The CAFÉ serves naïve Zürich fondue. Der Fluß fließt über große Öfen. Ça va, l'été déjà? Привет, мир! Γειά σου Κόσμε.
日本語のテキストと中文文本，还有한국어 문장。 emoji 😀👩‍👩‍👧 flags 🇩🇪 العربية हिन्दी ไทย
"""

CONTRACTIONS = "I'm you're he's they'd we'll I've don't I'M YOU'RE HE'S THEY'D WE'LL I'VE 'sup 'tis he’s ſ 'ſ s'S"

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n\n  \n",
    "Hello, world!",
    " leading and trailing ",
    "\t\ttabs\tand  two  spaces   ",
    "CRLF\r\nline\r\n\r\nend\r",
    CONTRACTIONS,
    "1 12 123 1234 12345 1234567890 3.14159 1,000,000 ١٢٣ ²³ ½ Ⅷ",
    "for (int i = 0; i < 10; ++i) {\n\treturn a[i]->b::c(\"x\\n\");  // note\n}\n\n\n",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case HTTPServer iPhone15Pro x2y",
    "日本語のテキスト 中文字符，标点。「引用」 한국어 문장 ひらがなカタカナー 漢字かな交じり文123",
    "Привет, как дела? Ζεύς και Ήρα. ΑΒΓ αβγ ἀρχή שלום עולם مرحبا بالعالم हिन्दी में लिखा हुआ ไทยภาษา",
    "combining e\u0301 a\u0323\u0307 and composed \u00e9, ligature \ufb01, full width \uff21\uff11, circled \u2460",
    "\u1100\u1161\u11a8 \uac01 \u212b \u2126 \u0344 \u0958 \ufb1d",
    "emoji \U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467 flags \U0001f1e9\U0001f1ea skin \U0001f44b\U0001f3fd",
    "\ufeffmark no-break\u00a0space ideographic\u3000space line\u2028para\u2029 zero\u200bwidth next\u0085line vowel\u180esep",
    "replacement \ufffd\ufffd and control \x01\x02\x1b\x7f",
    "literal \u2581 and \u2581\u2581under\u2581 and \u2585 <0x0A> <unk> <s>",
    "a" * 200 + " " + "=" * 130 + "\n" + " " * 300 + "x" + "ab" * 90,
    "<|end|>text<|end|> <|user|> <|user|>\n  <think>I think</think> THINK think thinker <mask> a <mask>\nb x<mask>y",
    "<|end|><|end|><|us <|user <|END|> <|end|>",
    "new letters \U00010d50\U00010d70 \U00011bc0 \u1c89\u1c8a \U00031350\U0002ebf0 digits \U00011bf0 \U0001cd00",
    PROSE,
]


def mixed_text():
    draw = random.Random(11)
    ranges = [(0x20, 0x7E)] * 6 + [(0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x5D0, 0x6FF), (0x900, 0x97F),
                                   (0x2000, 0x206F), (0x2460, 0x24FF), (0x3000, 0x30FF), (0x4E00, 0x9FFF),
                                   (0xAC00, 0xD7A3), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF)]
    parts = []
    for _ in range(260):
        low, high = draw.choice(ranges)
        parts.append("".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 6))))
        parts.append(draw.choice(["", " ", "  ", "\n", "\r\n", "'s", "'LL", "12", " 345678", ".", "\t"]))
    return "".join(parts)


TEXTS.append(mixed_text())

SPECIALS = [AddedToken("<|end|>", special=True, normalized=False), AddedToken("<|user|>", special=True, rstrip=True)]
ADDED = [AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False),
         AddedToken("think", single_word=True, normalized=True), AddedToken("<mask>", lstrip=True, normalized=False)]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")
BAILING = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
DEEPSEEK_V3 = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
               r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
               r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]
# The cased scripts as the published file lists them.
CASED = """41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C 38E-3A1 3A3-3F5
3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D
1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB
1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F 2145-2149
214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06
FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943"""
DEEPSEEK_LLM = ["[\r\n]",
                "\\s?[" + "".join("-".join(chr(int(c, 16)) for c in r.split("-")) for r in CASED.split()) + "]+",
                "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", "\\s+$", "[一-龥\u0800-一가-\ud7ff]+"]
FALLBACK = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(*steps):
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def trained(pre_tokenizer, normalizer=None, size=420, trainer_options=None, **model_options):
    tokenizer = Tokenizer(models.BPE(**model_options))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    options = dict(vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    options.update(trainer_options or {})
    tokenizer.train_from_iterator([PROSE] * 3 + TEXTS, trainers.BpeTrainer(**options))
    return tokenizer


def byte_bpe(pre_tokenizer, normalizer=None, **model_options):
    tokenizer = trained(pre_tokenizer, normalizer, **model_options)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.add_tokens(ADDED)
    return tokenizer


def with_options(tokenizer, **options):
    """The same tokenizer with other values in its model."""
    value = json.loads(tokenizer.to_str())
    value["model"].update(options)
    return Tokenizer.from_str(json.dumps(value))


def sentencepiece_bpe(normalizer, pre_tokenizer, decoder, bytes_too=True, **options):
    """Pieces with U+2581 and, as published, <unk>, <s>, </s> and 256 bytes in front."""
    tokenizer = trained(pre_tokenizer or pre_tokenizers.Metaspace(prepend_scheme="never"), normalizer, 300,
                        {"initial_alphabet": []})
    value = json.loads(tokenizer.to_str())
    tokens = ["<unk>", "<s>", "</s>"] + ([f"<0x{byte:02X}>" for byte in range(256)] if bytes_too else [])
    merges = [merge for merge in value["model"]["merges"]]
    learnt = sorted(value["model"]["vocab"], key=value["model"]["vocab"].get)
    # Rare characters stay out of the vocabulary, so that something has to fall back.
    keep = [token for token in learnt if all(c in "\u2581" or ord(c) < 0x250 for c in token)]
    merges = [m for m in merges if m[0] in keep and m[1] in keep and m[0] + m[1] in keep]
    tokens += [token for token in keep if token not in tokens]
    value["model"].update(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, unk_token="<unk>",
                          byte_fallback=bytes_too, **options)
    value["pre_tokenizer"] = json.loads(pre_tokenizer.__getstate__()) if pre_tokenizer else None
    tokenizer = Tokenizer.from_str(json.dumps(value))
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("think", single_word=True, normalized=True)])
    return tokenizer


def unigram():
    """As T5 and its kin: SentencePiece's unigram model with its own table of replacements."""
    import sentencepiece as spm
    model = io.BytesIO()
    handle, rules = tempfile.mkstemp(suffix=".tsv")
    with open(handle, "w", encoding="utf-8") as file:
        for source, target in [("\ufb01", "fi"), ("\uff21", "A"), ("\uff11", "1"), ("\u2460", "1"), ("\u00c9", "\u00e9"),
                               ("e\u0301", "\u00e9"), ("\t", " "), ("\n", " "), ("\u3000", " "), ("\u200b", ""),
                               ("\u212b", "\u00c5")]:
            file.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
    spm.SentencePieceTrainer.train(sentence_iterator=iter((PROSE * 3).split("\n") + CONTRACTIONS.split()),
                                   model_writer=model, vocab_size=230, model_type="unigram",
                                   normalization_rule_tsv=rules, hard_vocab_limit=False, minloglevel=2)
    os.remove(rules)
    from sentencepiece import sentencepiece_model_pb2 as pb
    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], 0, False))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap), normalizers.Strip(False, True),
        normalizers.Replace(Regex(" {2,}"), "\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=True)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def tokenizers():
    byte_fallback = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                       decoders.Strip(" ", 1, 0)])
    yield "gpt2", byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))
    yield "gpt2-prefix-space", byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=True))
    yield "qwen2", byte_bpe(byte_level(split(QWEN2)), normalizers.NFC())
    yield "qwen35", byte_bpe(byte_level(split(QWEN35)), normalizers.NFC())
    llama3 = with_options(byte_bpe(byte_level(split(LLAMA3))), ignore_merges=True)
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", llama3.token_to_id("<|end|>"))])])
    yield "llama3", llama3
    yield "o200k", with_options(byte_bpe(byte_level(split(O200K))), ignore_merges=True)
    yield "kimi-classes", byte_bpe(byte_level(split(KIMI)))
    yield "bailing", byte_bpe(byte_level(split(BAILING)))
    yield "deepseek-llm", byte_bpe(byte_level(*map(split, DEEPSEEK_LLM), pre_tokenizers.Digits(True)))
    yield "deepseek-v3", byte_bpe(byte_level(*map(split, DEEPSEEK_V3)))
    yield "refact", byte_bpe(pre_tokenizers.Sequence([pre_tokenizers.Digits(True),
                                                      pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    yield "fallback", byte_bpe(byte_level(*map(split, FALLBACK)))
    yield "llama2", sentencepiece_bpe(
        normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), None, byte_fallback,
        fuse_unk=True)
    yield "metaspace-first", sentencepiece_bpe(
        None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), byte_fallback, fuse_unk=True)
    yield "metaspace-unknown", sentencepiece_bpe(
        normalizers.NFKC(), pre_tokenizers.Metaspace(prepend_scheme="always", split=True),
        decoders.Metaspace(prepend_scheme="always", split=True), False, fuse_unk=True)
    yield "unknown-not-fused", sentencepiece_bpe(
        normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.Strip(), normalizers.StripAccents()]),
        pre_tokenizers.Metaspace(prepend_scheme="never", split=True), None, False, fuse_unk=False)
    yield "word-suffix", word_suffix()
    for behavior in ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            name = f"split-{behavior.replace('_', '-')}{'-inverted' if invert else ''}"
            yield name, byte_bpe(byte_level(split(r"[aeiou]|\d+", behavior, invert)), size=320)
    yield "words", byte_bpe(pre_tokenizers.Sequence([
        pre_tokenizers.Whitespace(), pre_tokenizers.Digits(False), pre_tokenizers.Split("re", "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), normalizers.NFKD())
    yield "punctuation", byte_bpe(pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]), normalizers.Nmt())
    yield "unigram", unigram()


def word_suffix():
    tokenizer = trained(pre_tokenizers.Sequence([split(r"\w+|[^\w\s]+", "removed", True)]), normalizers.Lowercase(), 400,
                        {"initial_alphabet": [], "end_of_word_suffix": "</w>", "limit_alphabet": 60,
                         "special_tokens": ["<unk>"]}, unk_token="<unk>", end_of_word_suffix="</w>")
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    return tokenizer


def write(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=None, separators=(",", ":"))
        file.write("\n")


def expected(encode, encode_plain, decode):
    ids = [encode(text) for text in TEXTS]
    result = {"ids": ids, "decoded": [decode(one) for one in ids]}
    plain = [encode_plain(text) for text in TEXTS]
    # Only where special tokens in the text make a difference.
    result["plain"] = {str(i): p for i, (p, one) in enumerate(zip(plain, ids)) if p != one}
    return result


def reference(tokenizer):
    def plain(text):
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        return ids
    return expected(lambda text: tokenizer.encode(text, add_special_tokens=False).ids, plain,
                    lambda ids: tokenizer.decode(ids, skip_special_tokens=False))


def make_tiktoken(folder):
    """Kimi-K2's form: tiktoken.model, and tokenizer_config.json with the special tokens."""
    import tiktoken
    tokenizer = byte_bpe(byte_level(split(KIMI)))
    value = json.loads(tokenizer.to_str())
    characters = {}
    for byte in range(256):
        printable = 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte
        characters[chr(byte) if printable else chr(256 + len([c for c in characters.values() if not
                   (33 <= c <= 126 or 161 <= c <= 172 or 174 <= c)]))] = byte
    in_bytes = lambda token: bytes(characters[c] for c in token)
    ranks = {bytes([byte]): byte for byte in range(256)}
    for left, right in value["model"]["merges"]:
        ranks.setdefault(in_bytes(left) + in_bytes(right), len(ranks))
    size = len(ranks)
    named = {size: "[BOS]", size + 1: "[EOS]", size + 2: "<|end|>", size + 3: "<|user|>", size + 4: "<think>"}
    special = {named.get(i, f"<|reserved_token_{i}|>"): i for i in range(size, size + 256)}
    with open(os.path.join(folder, "tiktoken.model"), "w", encoding="ascii") as file:
        for token, rank in ranks.items():
            file.write(f"{base64.b64encode(token).decode()} {rank}\n")
    write(os.path.join(folder, "tokenizer_config.json"),
          {"tokenizer_class": "TikTokenTokenizer", "bos_token": "[BOS]", "eos_token": "[EOS]",
           "added_tokens_decoder": {str(i): {"content": name, "special": True} for i, name in named.items()}})
    encoding = tiktoken.Encoding("small", pat_str=KIMI, mergeable_ranks=ranks, special_tokens=special)
    write(os.path.join(folder, "expected.json"),
          expected(lambda text: encoding.encode(text, allowed_special="all"),
                   lambda text: encoding.encode(text, disallowed_special=()), encoding.decode))


def make_real(folders):
    result = {}
    for name, path in folders:
        if os.path.exists(os.path.join(path, "tokenizer.json")):
            tokenizer = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
            result[name] = reference(tokenizer)
        else:
            import sentencepiece as spm
            processor = spm.SentencePieceProcessor(model_file=os.path.join(path, "tokenizer.model"))
            result[name] = expected(processor.encode, processor.encode, processor.decode)
    return result


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "..", "tests", "golden", "tokenizers")
    folders = [argument.split("=", 1) for argument in sys.argv[2:]]
    for name in os.listdir(root) if os.path.isdir(root) else []:
        if os.path.isdir(os.path.join(root, name)):
            shutil.rmtree(os.path.join(root, name))
    os.makedirs(root, exist_ok=True)
    write(os.path.join(root, "texts.json"), TEXTS)
    for name, tokenizer in tokenizers():
        folder = os.path.join(root, name)
        os.makedirs(folder)
        tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
        # What was saved is what is compared: saving may change a tokenizer.
        write(os.path.join(folder, "expected.json"), reference(Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))))
    folder = os.path.join(root, "tiktoken")
    os.makedirs(folder)
    make_tiktoken(folder)
    if folders:
        write(os.path.join(root, "real.json"), make_real(folders))


if __name__ == "__main__":
    main()
