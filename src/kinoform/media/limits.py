"""How much of a stranger's image or video is read; anything larger is refused, where possible from its header."""

MOST_BYTES = 2**30
"""Of one file or folder: ten minutes at 14 megabits per second, the rate of a good 1080p video."""

MOST_IMAGE_PIXELS = 2**26
"""A photograph of 48 megapixels fits; a 13,000 by 13,000 image, 676 MB once decoded with alpha, does not."""

MOST_VIDEO_PIXELS = 2**24
"""Of each frame: 4K fits, upright too."""

MOST_FRAMES = 36_000
"""Ten minutes at 60 per second."""

MOST_SECONDS = 600
"""Of a video, whatever part of it is taken: the longest that models make is below half a minute."""

MOST_RESULT = 2**31
"""Bytes of all frames that are taken, as RGB: 81 frames in 4K."""

MOST_MEMORY = 2**32
"""Address space of the process that decodes; the largest image needs a quarter of it."""

MOST_DECODING = 120
"""Seconds for one file or folder: 2 GiB of 4K frames take a slow processor half of that."""

RATES = (0.01, 1000.0)
"""Frames per second that a video may be taken at; the same limits hold where videos are written."""
