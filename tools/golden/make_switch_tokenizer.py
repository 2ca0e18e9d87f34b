#!/usr/bin/env python3
"""Gives tests/golden/switch_transformers/base its tokenizer: a small one as T5 has it.

    python tools/golden/make_switch_tokenizer.py [FOLDER]

Writes spiece.model, the tokenizer.json that transformers' T5Converter makes of it, tokenizer_config.json, and
tokenizer_expected.json: ids and decoded texts by the tokenizers library, the end token left out. Run with the versions
that make_tokenizers.py names, after make_switch.py.
"""

import io
import json
import os
import pathlib
import sys
import tempfile

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

CORPUS = """A man walks into a bar. The barman asks: what will it be? A glass of water, says the man.
The router sends every token to one expert, and the expert that has too much to do lets it pass.
She sells sea shells on the shore. The quick brown fox jumps over the lazy dog. Who was it? Nobody knows.
It rains in the north; in the south it is dry. There were 12 of them, then 365, then 0. Sphinx of black quartz."""

TEXTS = ["A <extra_id_0> walks into a bar", "The <extra_id_0> sends<extra_id_1>token <extra_id_2>.", "", " ", "\n\t ",
         "<extra_id_0>", "  two  spaces <extra_id_9>  \n end ", "the\nman</s> and <pad> and <unk>", "x<extra_id_3>y",
         "<extra_id_10> <extra_id_>", "caf\u00e9 \u65e5\u672c \U0001f600 man", "\ufb01sh \u2460 \u3000 bar",
         "\u2581the \u2581\u2581 man", CORPUS]
SENTINELS = 10


def train():
    handle, rules = tempfile.mkstemp(suffix=".tsv")
    with open(handle, "w", encoding="utf-8") as file:
        for source, target in [("\ufb01", "fi"), ("\u2460", "1"), ("\t", " "), ("\n", " "), ("\u3000", " ")]:
            file.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter((CORPUS * 2).split("\n")), model_writer=model, vocab_size=84, model_type="unigram",
        normalization_rule_tsv=rules, character_coverage=1.0, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
    os.remove(rules)
    return model.getvalue()


def convert(model):
    proto = pb.ModelProto()
    proto.ParseFromString(model)
    vocab = [(piece.piece, piece.score) for piece in proto.pieces]
    sentinels = [f"<extra_id_{i}>" for i in range(SENTINELS - 1, -1, -1)]
    tokenizer = Tokenizer(models.Unigram(vocab + [(name, 0.0) for name in sentinels], 2, False))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap), normalizers.Strip(False, True),
        normalizers.Replace(Regex(" {2,}"), "\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=True)
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in ["<pad>", "</s>", "<unk>"] + sentinels])
    tokenizer.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"],
                                                             special_tokens=[("</s>", 1)])
    return tokenizer


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "tests/golden/switch_transformers/base"
    model = train()
    (folder / "spiece.model").write_bytes(model)
    tokenizer = convert(model)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": SENTINELS, "eos_token": "</s>", "pad_token": "<pad>",
              "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    expected = {"texts": TEXTS, "ids": ids, "decoded": [tokenizer.decode(one, skip_special_tokens=False) for one in ids]}
    # The library that trained the model agrees where no special token is in the text.
    processor = spm.SentencePieceProcessor(model_proto=model)
    for text, one in zip(TEXTS, ids):
        if "<" not in text and processor.encode(text) != one:
            print("sentencepiece differs:", repr(text), processor.encode(text), one)
    (folder / "tokenizer_expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
    print(tokenizer.get_vocab_size(), "ids")


if __name__ == "__main__":
    main()
