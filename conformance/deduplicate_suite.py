"""Beam's tests of Deduplicate, with the two that Beam skips since its own runners lack TestStream, as they are."""
from apache_beam.transforms import deduplicate_test


class WeirDeduplicateTest(deduplicate_test.DeduplicateTest):
  # Under the decorators that skip them.
  def test_deduplication_with_event_time(self):
    deduplicate_test.DeduplicateTest.test_deduplication_with_event_time.__wrapped__(self)

  def test_deduplication_with_processing_time(self):
    deduplicate_test.DeduplicateTest.test_deduplication_with_processing_time.__wrapped__(self)
