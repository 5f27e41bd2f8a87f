"""The notes of the example prompts, as written in scores long in the public domain.

A voice is a line of tokens: pitches joined by `+`, or `r` for a rest, and after a colon the length in quarter notes,
which stays until the next one given. `'` behind a token is staccato, `~` before it a grace note. Bars are marked by
`|`, which the reader checks against the metre.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One line of the music and how it is played."""

    notes: str
    velocity: int
    melody: bool = False
    """Played louder at the top of its phrases, and a trifle ahead of the rest."""
    touch: float = 0.96
    """Share of its written length that a note is held."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """An opening, what the page says of it, and how a pianist moves through it."""

    slug: str
    title: str
    composer: str
    character: str
    tempo: float
    """Quarter notes per minute."""
    bar: float
    """Quarter notes per bar."""
    phrase: int
    """Bars per phrase: the arch of tempo and loudness."""
    voices: tuple[Voice, ...]
    pedal: tuple[float, ...] = ()
    """Where in a bar the pedal is changed, in quarter notes; empty for playing without it."""
    upbeat: float = 0.0
    rubato: float = 0.03
    """How far the tempo moves with the phrase."""
    swell: float = 6.0
    """How far the loudness moves with the phrase, in velocity."""


def _broken_chords(chords: str) -> tuple[str, str, str]:
    """Bach's figure: bass and tenor held, the other three struck twice, two times a bar."""
    bass, tenor, top = [], [], []
    for chord in chords.split("|"):
        a, b, c, d, e = chord.split()
        bass.append(f"{a}:2 {a}")
        tenor.append(f"r:1/4 {b}:7/4 r:1/4 {b}:7/4")
        top.append(" ".join([f"r:1/2 {c}:1/4 {d} {e} {c} {d} {e}"] * 2))
    return " | ".join(bass), " | ".join(tenor), " | ".join(top)


def _times(*counted: tuple[str, int]) -> str:
    return " ".join(" ".join([token] * count) for token, count in counted)


_bach = _broken_chords(
    "c4 e4 g4 c5 e5 | c4 d4 a4 d5 f5 | b3 d4 g4 d5 f5 | c4 e4 g4 c5 e5 | c4 e4 a4 e5 a5 | c4 d4 f#4 a4 d5 |"
    "b3 d4 g4 d5 g5"
)

BACH = Piece(
    slug="bach-prelude-c",
    title="Prelude in C major, BWV 846",
    composer="J. S. Bach",
    character="calm broken chords",
    tempo=69,
    bar=4,
    phrase=4,
    pedal=(0, 2),
    rubato=0.025,
    voices=(
        Voice(notes=_bach[0], velocity=56),
        Voice(notes=_bach[1], velocity=50),
        Voice(notes=_bach[2], velocity=54, melody=True),
    ),
)

MOZART = Piece(
    slug="mozart-alla-turca",
    title="Rondo alla turca, K. 331",
    composer="W. A. Mozart",
    character="bright and quick",
    tempo=116,
    bar=2,
    phrase=4,
    upbeat=1,
    rubato=0.015,
    swell=8,
    voices=(
        Voice(
            notes="b4:1/4 a4 g#4 a4 | c5:1/2' r d5:1/4 c5 b4 c5 | e5:1/2' r f5:1/4 e5 d#5 e5 |"
            "b5 a5 g#5 a5 b5 a5 g#5 a5 | c6:1 a5:1/2' c6' |"
            "~g5 ~a5 b5' f#5+a5' e5+g5' f#5+a5' | ~g5 ~a5 b5' f#5+a5' e5+g5' f#5+a5' |"
            "~g5 ~a5 b5' f#5+a5' e5+g5' d#5+f#5' | e5:1 c5+e5:1/2' d5+f5' |"
            "e5+g5' e5+g5' a5:1/4 g5 f5 e5 | d5:1 c5+e5:1/2' d5+f5' | e5+g5' e5+g5' a5:1/4 g5 f5 e5 |"
            "b4+d5:1 a4+c5:1/2' b4+d5' | c5+e5' c5+e5' f5:1/4 e5 d5 c5 | b4:1 a4+c5:1/2' b4+d5' |"
            "c5+e5' c5+e5' f5:1/4 e5 d5 c5 | g#4+b4:1 b4:1/4 a4 g#4 a4 |"
            "c5:1/2' r d5:1/4 c5 b4 c5 | e5:1/2' r f5:1/4 e5 d#5 e5 | b5 a5 g#5 a5 b5 a5 g#5 a5",
            velocity=70,
            melody=True,
            touch=0.9,
        ),
        Voice(
            notes="r:1" + " | r:2" * 9 + " | b4:1/2 g4 r:1 | r:2 | r | r | g#4:1/2 e4 r:1 | r:2 | r | r | r | r",
            velocity=52,
        ),
        Voice(
            notes="r:1 | a3:1/2 c4+e4' c4+e4' c4+e4' | a3 c4+e4' c4+e4' c4+e4' | a3 c4+e4' a3 c4+e4' |"
            "a3 c4+e4' c4+e4' c4+e4' | e3' b3+e4' b3+e4' b3+e4' | e3' b3+e4' b3+e4' b3+e4' | e3' b3+e4' b2' b3' |"
            "e3:1 r | c3:1/2' c4' e3' e4' | g3:1 r | c3:1/2' c4' e3' e4' | g3:1 r | a2:1/2' a3' c3' c4' | e3:1 r |"
            "a2:1/2' a3' c3' c4' | e3:1 r | a3:1/2 c4+e4' c4+e4' c4+e4' | a3 c4+e4' c4+e4' c4+e4' |"
            "a3 c4+e4' a3 c4+e4'",
            velocity=54,
            touch=0.85,
        ),
    ),
)

MOONLIGHT = Piece(
    slug="beethoven-moonlight",
    title="“Moonlight” sonata, op. 27 no. 2, 1st movement",
    composer="L. van Beethoven",
    character="dark, slow triplets",
    tempo=60,
    bar=4,
    phrase=4,
    pedal=(0, 2),
    rubato=0.03,
    swell=4,
    voices=(
        Voice(
            notes="r:4 | r | r | r | r:3 g#4:3/4 g#4:1/4 | g#4:3 g#4:3/4 g#4:1/4",
            velocity=58,
            melody=True,
            touch=1.0,
        ),
        Voice(
            notes=_times(("g#3:1/3 c#4 e4", 4))
            + " | "
            + _times(("g#3 c#4 e4", 4))
            + " | a3 c#4 e4 a3 c#4 e4 a3 d4 f#4 a3 d4 f#4 | g#3 c4 f#4 g#3 c#4 e4 g#3 c#4 d#4 f#3 c4 d#4 |"
            "e3 g#3 c#4 g#3 c#4 e4 g#3 c#4 e4 g#3 c#4 e4 | " + _times(("g#3 d#4 f#4", 4)),
            velocity=40,
            touch=1.0,
        ),
        Voice(
            notes="c#2+c#3:4 | b1+b2 | a1+a2:2 f#1+f#2 | g#1+g#2 g#1+g#2 | c#2+g#2+c#3:4 | c2+g#2+c3",
            velocity=46,
            touch=1.0,
        ),
    ),
)

PATHETIQUE = Piece(
    slug="beethoven-pathetique",
    title="“Pathétique” sonata, op. 13, Adagio cantabile",
    composer="L. van Beethoven",
    character="a singing melody",
    tempo=35,
    bar=2,
    phrase=4,
    pedal=(0, 1),
    rubato=0.05,
    voices=(
        Voice(
            notes="c4:1 bb3 | eb4:3/2 db4:1/2 | c4 eb4 ab4 bb4 | eb4:3/2 e4:1/2 | f4:1 bb3:3/4 c4:1/8 db4 |"
            "eb4:1 a3 | db4 c4:1/4' bb3' ab3' g3'",
            velocity=66,
            melody=True,
            touch=1.0,
        ),
        Voice(
            notes="ab3:1/4 eb3 ab3 eb3 g3 eb3 g3 eb3 | ab3 eb3 ab3 eb3 bb3 eb3 bb3 eb3 |"
            "ab3 eb3 bb3 eb3 c4 ab3 d4 ab3 | g3 bb3 g3 bb3 g3 bb3 g3 bb3 | g3 bb3 g3 bb3 g3 eb3 g3 eb3 |"
            "ab3 eb3 ab3 eb3 eb3 c3 eb3 c3 | f3 db3 f3 db3 db3 db3 db3 db3",
            velocity=40,
        ),
        Voice(
            notes="ab2:1 db3 | c3 g2 | ab2:1/2 g2 f2 f3 | eb3:1 eb2 | db2 db3 | c3 f2 | bb1 eb2", velocity=50, touch=1.0
        ),
    ),
)

CHOPIN = Piece(
    slug="chopin-prelude-e-minor",
    title="Prelude in E minor, op. 28 no. 4",
    composer="F. Chopin",
    character="a slow lament",
    tempo=64,
    bar=4,
    phrase=2,
    upbeat=1,
    pedal=(0, 2),
    rubato=0.06,
    voices=(
        Voice(
            notes="b3:3/4 b4:1/4 | b4:3 c5:1 | b4:3 c5:1 | b4:3 c5:1 | b4:3 bb4:1 | a4:3 b4:1 | a4:3 b4:1",
            velocity=64,
            melody=True,
            touch=1.0,
        ),
        Voice(
            notes="r:1 | "
            + _times(("g3+b3+e4:1/2", 8))
            + " | "
            + _times(("f#3+a3+e4", 4), ("f#3+a3+d#4", 4))
            + " | "
            + _times(("f3+a3+d#4", 4), ("f3+a3+d4", 2), ("f3+g#3+d4", 2))
            + " | "
            + _times(("e3+g#3+d4", 4), ("e3+g3+d4", 2), ("e3+g3+c#4", 2))
            + " | "
            + _times(("e3+g3+c4", 4), ("e3+f#3+c4", 4))
            + " | "
            + _times(("e3+f#3+c4", 4), ("d#3+f#3+c4", 4)),
            velocity=42,
            touch=0.9,
        ),
    ),
)

SCHUMANN = Piece(
    slug="schumann-foreign-lands",
    title="Of foreign lands and peoples, op. 15 no. 1",
    composer="R. Schumann",
    character="tender storytelling",
    tempo=66,
    bar=2,
    phrase=4,
    pedal=(0, 1),
    rubato=0.05,
    voices=(
        Voice(
            notes="b4:1 g5 | f#5:3/4 e5:1/4 d5:1 | b4 g5 | f#5:3/4 e5:1/4 d5:1 | b4 g5 | e5:3/4 d5:1/4 c5:1 | a4 d5 |"
            "b4:2 | g4+b4:1 a4+c5 | f#4+a4 g4+b4 | e4+g4 e4+a4 | d#4+f#4 d4+g4",
            velocity=66,
            melody=True,
            touch=1.0,
        ),
        Voice(
            notes="b3:1/3 d4 g4 bb3 e4 g4 | a3 d4 f#4 c4 d4 a4 | b3 d4 g4 bb3 e4 g4 | a3 d4 f#4 c4 d4 a4 |"
            "b3 d4 g4 g3 d4 g4 | g3 e4 g4 g3 c4 g4 | g3 c4 g4 f#3 c4 f#4 | d3 b3 g4 g3 b3 g4 |"
            "r b3 e4 r a3 e4 | r a3 d4 r g3 d4 | r g3 c4 r f#3 c4 | r f#3 b3 r g3 b3",
            velocity=44,
        ),
        Voice(
            notes="g3:1/2 r c#3 r | d3 r f#3 r | g3 r c#3 r | d3 r f#3 r | g3 r b2 r | c3 r e3 r | d3 r d3 r |"
            "g2 r r:1 | e3:1 a2 | d3:3/4 c3:1/4 b2:1 | c3 f#2 | b2:3/4 a2:1/4 g2:1",
            velocity=52,
            touch=1.0,
        ),
    ),
)

JOPLIN = Piece(
    slug="joplin-entertainer",
    title="The Entertainer",
    composer="S. Joplin",
    character="ragtime",
    tempo=80,
    bar=2,
    phrase=4,
    rubato=0.01,
    swell=7,
    voices=(
        Voice(
            notes="d6:1/4 e6 c6 a5:1/2 b5:1/4 g5:1/2 | d5:1/4 e5 c5 a4:1/2 b4:1/4 g4:1/2 |"
            "d4:1/4 e4 c4 a3:1/2 b3:1/4 a3 ab3 | g3:1/2 r g4+b4+d5+g5' d4:1/4 d#4 |"
            "e4 c5:1/2 e4:1/4 c5:1/2 e4:1/4 c5:3/2 c5+e5+c6:1/4 d5+f5+d6 d#5+f#5+d#6 |"
            "e5+g5+e6 c5+e5+c6 d5+f5+d6 e5+g5+e6:1/2 b4+d5+b5:1/4 d5+f5+d6:1/2 | c5+e5+c6:3/2 d4:1/4 d#4 |"
            "e4 c5:1/2 e4:1/4 c5:1/2 e4:1/4 c5:7/4 a4+c5+a5:1/4 g4+c5+g5 |"
            "f#4+c5+f#5 a4+a5 c5+c6 e5+e6:1/2 d5+d6:1/4 c5+c6 a4+a5 | d5+f5+d6:3/2 d4:1/4 d#4",
            velocity=72,
            melody=True,
            touch=0.88,
        ),
        Voice(
            notes="d5:1/4 e5 c5 a4:1/2 b4:1/4 g4:1/2 | d4:1/4 e4 c4 a3:1/2 b3:1/4 g3:1/2 |"
            "d3:1/4 e3 c3 a2:1/2 b2:1/4 a2 ab2 | g2:1/2 r g1+g2' g3+b3' |"
            "c3 e3+g3+c4' g2+g3 g3+bb3+c4' | f2+f3 a3+c4' e2+e3 g3+c4' | g2 e3+g3+c4' g2 f3+g3+b3' |"
            "c3 e3+g3+c4' e3+g3+c4' g3+b3' | c3 e3+g3+c4' g2+g3 g3+bb3+c4' | f2+f3 a3+c4' e2+e3 g3+c4' |"
            "d2+d3 d3+f#3+a3+c4' d3 f#3+a3+c4' | g3+b3 g2+g3' a2+a3' b2+b3'",
            velocity=60,
            touch=0.8,
        ),
    ),
)

SATIE = Piece(
    slug="satie-gymnopedie",
    title="Gymnopédie no. 1",
    composer="E. Satie",
    character="sparse and still",
    tempo=76,
    bar=3,
    phrase=4,
    pedal=(0,),
    rubato=0.03,
    swell=4,
    voices=(
        Voice(
            notes="r:3 | r | r | r | r:1 f#5 a5 | g5 f#5 c#5 | b4 c#5 d5 | a4:3 | f#4 | f#4",
            velocity=58,
            melody=True,
            touch=1.0,
        ),
        Voice(notes=" | ".join(["r:1 b3+d4+f#4:2 | r:1 a3+c#4+f#4:2"] * 5), velocity=40),
        Voice(notes=" | ".join(["g2:3 | d2"] * 5), velocity=46, touch=1.0),
    ),
)

PIECES = (BACH, MOZART, MOONLIGHT, PATHETIQUE, CHOPIN, SCHUMANN, JOPLIN, SATIE)
