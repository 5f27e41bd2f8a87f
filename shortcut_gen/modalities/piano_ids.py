"""What the 388 ids of a piano performance are: the constants of Magenta's performance encoding."""

NOTE_ON = 0  # 0-127, by pitch
NOTE_OFF = 128  # 128-255, by pitch
TIME_SHIFT = 256  # 256-355: 1 to 100 ticks
VELOCITY = 356  # 356-387, by bin
VOCAB_SIZE = 388
TICKS_PER_SECOND = 100  # a tick is 10 ms
MAX_SHIFT_TICKS = 100  # the longest time-shift, 1 s
