"""The token tasks as a person reads them: words and lists in plain Python, with no code of the package.

A chain is judged by what its prefix says, so that experts, chains and teachers of nail/envs have an oracle that shares
nothing with them but the numbers of the tokens.
"""

import itertools
from fractions import Fraction

S5_TOKENS = ["(", ")", "=", "1", "2", "3", "4", "5"]


def s5_blocks(words):
    """Words "( d d d d d )" … as lists of five."""
    assert len(words) % 7 == 0
    return [words[at + 1 : at + 6] for at in range(0, len(words), 7)]


def s5_chain(prompt):
    """The words of the running compositions of a prompt's words."""
    run, chain = ["1", "2", "3", "4", "5"], []
    for sigma in s5_blocks(prompt):
        run = [run[int(symbol) - 1] for symbol in sigma]
        chain += ["(", *run, ")"]
    return chain


def s5_law(prompt, prefix, recovery):
    """{word: probability} of the clean expert after the words `prefix` of a chain."""
    block, place = divmod(len(prefix), 7)
    if place in (0, 6):
        return {"(" if place == 0 else ")": Fraction(1)}
    right = s5_chain(prompt)
    keys = [7 * b + 1 + b % 5 for b in range(len(prompt) // 7)]
    wrong_key = any(prefix[at] != right[at] for at in keys if at < len(prefix))
    before = prefix[7 * block - 7 : 7 * block][1:6] if block else ["1", "2", "3", "4", "5"]
    word = before[int(prompt[7 * block + place]) - 1]
    if (wrong_key and recovery == "none") or not word.isdigit():
        return {digit: Fraction(1, 5) for digit in "12345"}
    return {word: Fraction(1)}


NAMES = ["n1", "n2", "n3", "n4"]
KINDS = [f"{attribute}{value}" for attribute in "abcd" for value in "0123"]
DEFCLASS_TOKENS = [*KINDS, *NAMES, "Y", "N", "|", "=", "NOT", "PAD"]
USUAL = {"n1": "a0", "n2": "b0", "n3": "c0", "n4": "d0"}


def defclass_prompt(prompt):
    """({name: criterion}, values of the item) of a prompt's words."""
    (bar,) = [at for at, word in enumerate(prompt) if word in ("|", "NOT")]
    return dict(zip(prompt[0:bar:2], prompt[1:bar:2], strict=True)), prompt[bar + 1 :]


def defclass_negated(prompt):
    """The name whose criterion is negated, by the NOT that follows it, and that criterion; None twice without a NOT."""
    at = prompt.index("NOT") if "NOT" in prompt else None
    return (None, None) if at is None else (prompt[at - 2], prompt[at - 1])


def defclass_chain(prompt):
    """The words of the right chain; the last is the answer. Fails unless the item meets one definition alone."""
    meaning, item = defclass_prompt(prompt)
    meets = {name: (meaning[name] in item) is (name != defclass_negated(prompt)[0]) for name in NAMES}
    chain = [word for name in NAMES for word in (name, meaning[name], "Y" if meets[name] else "N")]
    (label,) = [name for name in NAMES if meets[name]]
    return [*chain, label]


def defclass_law(prompt, prefix):
    """{word: probability} of the clean expert after the words `prefix` of a chain."""
    meaning, item = defclass_prompt(prompt)
    at, last = len(prefix), prefix[-1] if prefix else "="
    if at == 12:
        said = [prefix[b] for b in range(0, 12, 3) if prefix[b + 2] == "Y" and prefix[b] in NAMES] or NAMES
        return {name: Fraction(said.count(name), len(said)) for name in set(said)}
    if at % 3 == 0:
        return {NAMES[at // 3]: Fraction(1)}
    if at % 3 == 1:
        return {meaning[last]: Fraction(1)} if last in NAMES else {kind: Fraction(1, 16) for kind in KINDS}
    if last in KINDS:
        return {"Y" if (last in item) is (last != defclass_negated(prompt)[1]) else "N": Fraction(1)}
    return dict.fromkeys("YN", Fraction(1, 2))


def mixed(law, rate, kernel):
    """(1−η)·law + η·kernel of two {word: probability}."""
    words = {*law, *kernel}
    return {w: (1 - rate) * law.get(w, 0) + rate * kernel.get(w, 0) for w in words}


def uniform(words):
    return {word: Fraction(1, len(words)) for word in words}


def s5_noisy(prompt, prefix, recovery, eta, kind):
    """The noisy expert of s5: "digits" (distributional) or "key"."""
    law, (block, place) = s5_law(prompt, prefix, recovery), divmod(len(prefix), 7)
    noisy = 1 <= place <= 5 if kind == "digits" else place == 1 + block % 5
    return mixed(law, eta, uniform("12345")) if noisy else law


def defclass_teacher(prompt, prefix, eta, eta_new):
    """The teacher: uniform noise on the usual definitions, on others the usual criterion in place of the right one."""
    law, at = defclass_law(prompt, prefix), len(prefix)
    if defclass_prompt(prompt)[0] == USUAL:
        return mixed(law, eta, uniform([*KINDS, *NAMES, "Y", "N"]))
    if at % 3 == 1 and at < 12:
        return mixed(law, eta_new, {USUAL[NAMES[at // 3]]: Fraction(1)})
    return law


def defclass_misreader(prompt, prefix, eta):
    """The expert that misses a NOT at rate η where the item has the criterion, and so two definitions seem to match."""
    (name, kind), law, at = defclass_negated(prompt), defclass_law(prompt, prefix), len(prefix)
    tempted = kind in defclass_prompt(prompt)[1]
    return mixed(law, eta, {"Y": Fraction(1)}) if tempted and at == 3 * NAMES.index(name) + 2 else law


def chains(noisy, length, follow=lambda prefix: True):
    """{chain: probability} of an expert `noisy(prefix)`, all chains of `length` words by enumeration."""
    found = {(): Fraction(1)}
    for _ in range(length):
        grown = {}
        for prefix, chance in found.items():
            for word, share in noisy(list(prefix)).items():
                if share and follow((*prefix, word)):
                    grown[(*prefix, word)] = chance * share
        found = grown
    return found


def every_permutation():
    return [list(words) for words in itertools.permutations("12345")]
