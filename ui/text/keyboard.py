"""The piano keyboard: its panel (`static/keyboard.html` has the names of these), in HTML."""

PLAY = "Play"
PLAY_DOES = "a piano keyboard: record a beginning of your own, or take turns with the model"
RECORD, COUNT_IN, TEMPO = "Record", "Count-in", "Tempo"
DUET, ANSWERS_AFTER, TWO_SECONDS = "Duet", "answers after", "2 s"
PEDAL, CONNECT = "Pedal", "Connect MIDI"
LOWER, KEYBOARD, HIGHER = "An octave lower", "Piano keyboard", "An octave higher"
HINT = (
    "On a computer's keyboard: the letters on the piano's keys, <kbd>-</kbd> and <kbd>=</kbd> for an octave lower or "
    "higher, <kbd>space</kbd> for the pedal. A key that is struck nearer to its front end is louder."
)
