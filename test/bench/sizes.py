"""The cases of the benchmark: name -> (default size, what CPU seconds are per million of, boundaries crossed)."""

CASES = {
    'tiny': (3, None, 1),
    'wordcount': (1_000_000, 'words', 1),
    'gbk_100k_keys': (1_000_000, 'elements', 1),
    'gbk_4_keys': (1_000_000, 'elements', 1),
    'reshuffle_5': (1_000_000, 'elements and boundary', 5),
    'side_input_dict': (100_000, 'elements', 1),
    'fixed_windows': (300_000, 'elements', 1),
    'stateful_count': (1_000_000, 'elements', 1),
    'windowed_stream': (300_000, 'elements', 1),
    'event_timers': (100_000, 'timers', 1),
    'processing_timers': (100_000, 'timers', 1),
}

# Those of streaming_cases.py, and which of them are submitted with --streaming.
STREAMING_CASES = {
    'stateful_count': False,
    'windowed_stream': True,
    'event_timers': False,
    'processing_timers': True,
}
