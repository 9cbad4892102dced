import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.beam.runners.portability.PortableRunner;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.PipelineResult;
import org.apache.beam.sdk.coders.StringUtf8Coder;
import org.apache.beam.sdk.coders.VarIntCoder;
import org.apache.beam.sdk.coders.VarLongCoder;
import org.apache.beam.sdk.coders.KvCoder;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.options.PortablePipelineOptions;
import org.apache.beam.sdk.state.BagState;
import org.apache.beam.sdk.state.MapState;
import org.apache.beam.sdk.state.StateSpec;
import org.apache.beam.sdk.state.StateSpecs;
import org.apache.beam.sdk.state.TimeDomain;
import org.apache.beam.sdk.state.Timer;
import org.apache.beam.sdk.state.TimerSpec;
import org.apache.beam.sdk.state.TimerSpecs;
import org.apache.beam.sdk.state.ValueState;
import org.apache.beam.sdk.testing.PAssert;
import org.apache.beam.sdk.testing.TestStream;
import org.apache.beam.sdk.transforms.Combine;
import org.apache.beam.sdk.transforms.Count;
import org.apache.beam.sdk.transforms.Create;
import org.apache.beam.sdk.transforms.DoFn;
import org.apache.beam.sdk.transforms.Flatten;
import org.apache.beam.sdk.transforms.FlatMapElements;
import org.apache.beam.sdk.transforms.GroupByKey;
import org.apache.beam.sdk.transforms.MapElements;
import org.apache.beam.sdk.transforms.ParDo;
import org.apache.beam.sdk.transforms.Sum;
import org.apache.beam.sdk.transforms.View;
import org.apache.beam.sdk.transforms.windowing.AfterPane;
import org.apache.beam.sdk.transforms.windowing.AfterWatermark;
import org.apache.beam.sdk.transforms.windowing.FixedWindows;
import org.apache.beam.sdk.transforms.windowing.Repeatedly;
import org.apache.beam.sdk.transforms.windowing.Sessions;
import org.apache.beam.sdk.transforms.windowing.Window;
import org.apache.beam.sdk.io.GenerateSequence;
import org.apache.beam.sdk.values.KV;
import org.apache.beam.sdk.values.PCollection;
import org.apache.beam.sdk.values.PCollectionList;
import org.apache.beam.sdk.values.PCollectionView;
import org.apache.beam.sdk.values.TimestampedValue;
import org.apache.beam.sdk.values.TypeDescriptors;
import org.joda.time.Duration;
import org.joda.time.Instant;

/**
 * A few pipelines of Beam's Java SDK. Usage: Smoke ENDPOINT NAME runs one; Smoke --list tells their names. Exit code 0
 * when the job is DONE, 1 otherwise.
 */
public class Smoke {
  static final Map<String, Consumer<Pipeline>> PIPELINES = new LinkedHashMap<>();

  static {
    PIPELINES.put("count_words", Smoke::countWords);
    PIPELINES.put("side_input_and_flatten", Smoke::sideInputAndFlatten);
    PIPELINES.put("session_windows", Smoke::sessionWindows);
    PIPELINES.put("splittable_source", Smoke::splittableSource);
    PIPELINES.put("state_and_timer", Smoke::stateAndTimer);
    PIPELINES.put("on_window_expiration", Smoke::onWindowExpiration);
    PIPELINES.put("map_state", Smoke::mapState);
    PIPELINES.put("test_stream_early_panes", Smoke::testStreamEarlyPanes);
    PIPELINES.put("empty_on_time_panes", Smoke::emptyOnTimePanes);
    PIPELINES.put("test_stream_relative_timer", Smoke::testStreamRelativeTimer);
    PIPELINES.put("rate_limited_source", Smoke::rateLimitedSource);
  }

  static void countWords(Pipeline p) {
    PCollection<KV<String, Long>> counts =
        p.apply(Create.of("to be or", "not to be"))
            .apply(FlatMapElements.into(TypeDescriptors.strings()).via(line -> Arrays.asList(line.split(" "))))
            .apply(Count.perElement());
    PAssert.that(counts).containsInAnyOrder(KV.of("to", 2L), KV.of("be", 2L), KV.of("or", 1L), KV.of("not", 1L));
  }

  static void sideInputAndFlatten(Pipeline p) {
    PCollectionView<Integer> factor = p.apply("Factor", Create.of(10)).apply(View.asSingleton());
    PCollection<Integer> all =
        PCollectionList.of(p.apply("One", Create.of(1, 2))).and(p.apply("Three", Create.of(3))).apply(Flatten.pCollections());
    PCollection<Integer> scaled =
        all.apply(
            ParDo.of(
                    new DoFn<Integer, Integer>() {
                      @ProcessElement
                      public void process(ProcessContext context) {
                        context.output(context.element() * context.sideInput(factor));
                      }
                    })
                .withSideInputs(factor));
    PAssert.that(scaled).containsInAnyOrder(10, 20, 30);
  }

  static void sessionWindows(Pipeline p) {
    PCollection<KV<String, Integer>> sums =
        p.apply(
                Create.timestamped(
                    TimestampedValue.of(KV.of("k", 1), new Instant(0)),
                    TimestampedValue.of(KV.of("k", 2), new Instant(5)),
                    TimestampedValue.of(KV.of("k", 4), new Instant(100))))
            .apply(Window.into(Sessions.withGapDuration(Duration.millis(10))))
            .apply(Sum.integersPerKey());
    PAssert.that(sums).containsInAnyOrder(KV.of("k", 3), KV.of("k", 4));
  }

  static void splittableSource(Pipeline p) {
    PCollection<Long> count = p.apply(GenerateSequence.from(0).to(1000)).apply(Count.globally());
    PAssert.thatSingleton(count).isEqualTo(1000L);
  }

  static class Collecting extends DoFn<KV<String, Integer>, Integer> {
    @StateId("sum")
    private final StateSpec<ValueState<Integer>> sum = StateSpecs.value(VarIntCoder.of());

    @TimerId("end")
    private final TimerSpec end = TimerSpecs.timer(TimeDomain.EVENT_TIME);

    @ProcessElement
    public void process(
        @Element KV<String, Integer> element, @StateId("sum") ValueState<Integer> sum, @TimerId("end") Timer end) {
      Integer known = sum.read();
      sum.write((known == null ? 0 : known) + element.getValue());
      end.set(new Instant(1000));
    }

    @OnTimer("end")
    public void onEnd(@StateId("sum") ValueState<Integer> sum, OutputReceiver<Integer> out) {
      out.output(sum.read());
    }
  }

  static void stateAndTimer(Pipeline p) {
    PCollection<Integer> sums =
        p.apply(Create.of(KV.of("a", 1), KV.of("a", 2), KV.of("b", 4))).apply(ParDo.of(new Collecting()));
    PAssert.that(sums).containsInAnyOrder(3, 4);
  }

  static class Expiring extends DoFn<KV<String, Integer>, Integer> {
    @StateId("bag")
    private final StateSpec<BagState<Integer>> bag = StateSpecs.bag(VarIntCoder.of());

    @ProcessElement
    public void process(@Element KV<String, Integer> element, @StateId("bag") BagState<Integer> bag) {
      bag.add(element.getValue());
    }

    @OnWindowExpiration
    public void expire(@StateId("bag") BagState<Integer> bag, OutputReceiver<Integer> out) {
      int count = 0;
      for (int ignored : bag.read()) count++;
      out.output(count);
    }
  }

  static void onWindowExpiration(Pipeline p) {
    PCollection<Integer> counts =
        p.apply(
                Create.timestamped(
                    TimestampedValue.of(KV.of("k", 1), new Instant(0)),
                    TimestampedValue.of(KV.of("k", 2), new Instant(5)),
                    TimestampedValue.of(KV.of("k", 4), new Instant(15))))
            .apply(Window.into(FixedWindows.of(Duration.millis(10))))
            .apply(ParDo.of(new Expiring()));
    PAssert.that(counts).containsInAnyOrder(2, 1);
  }

  static class Remembering extends DoFn<KV<String, String>, String> {
    @StateId("map")
    private final StateSpec<MapState<String, Long>> map = StateSpecs.map(StringUtf8Coder.of(), VarLongCoder.of());

    @ProcessElement
    public void process(
        @Element KV<String, String> element, @StateId("map") MapState<String, Long> map, OutputReceiver<String> out) {
      Long seen = map.get(element.getValue()).read();
      map.put(element.getValue(), seen == null ? 1L : seen + 1);
      if (seen != null) out.output(element.getValue() + seen);
    }
  }

  static void mapState(Pipeline p) {
    PCollection<String> again =
        p.apply(Create.of(KV.of("k", "x"), KV.of("k", "y"), KV.of("k", "x"), KV.of("k", "x")))
            .apply(ParDo.of(new Remembering()));
    PAssert.that(again).containsInAnyOrder("x1", "x2");
  }

  static void testStreamEarlyPanes(Pipeline p) {
    TestStream<KV<String, Integer>> stream =
        TestStream.create(KvCoder.of(StringUtf8Coder.of(), VarIntCoder.of()))
            .addElements(TimestampedValue.of(KV.of("k", 1), new Instant(0)), TimestampedValue.of(KV.of("k", 2), new Instant(1)))
            .addElements(TimestampedValue.of(KV.of("k", 4), new Instant(2)))
            .advanceWatermarkToInfinity();
    PCollection<Integer> sums =
        p.apply(stream)
            .apply(
                Window.<KV<String, Integer>>into(FixedWindows.of(Duration.millis(10)))
                    .triggering(AfterWatermark.pastEndOfWindow().withEarlyFirings(AfterPane.elementCountAtLeast(2)))
                    .withAllowedLateness(Duration.ZERO)
                    .discardingFiredPanes())
            .apply(GroupByKey.create())
            .apply(
                MapElements.into(TypeDescriptors.integers())
                    .via(
                        group -> {
                          int sum = 0;
                          for (int value : group.getValue()) sum += value;
                          return sum;
                        }));
    PAssert.that(sums).containsInAnyOrder(3, 4);
  }

  /** As in ReduceFnRunner: a window that has fired early only has an on-time pane, empty or not, unless it is asked not to. */
  static void emptyOnTimePanes(Pipeline p) {
    PCollection<KV<String, Integer>> elements = p.apply(Create.of(KV.of("k", 1), KV.of("k", 2)));
    Window<KV<String, Integer>> repeated =
        Window.<KV<String, Integer>>into(FixedWindows.of(Duration.standardDays(1)))
            .triggering(Repeatedly.forever(AfterPane.elementCountAtLeast(1)))
            .withAllowedLateness(Duration.ZERO)
            .discardingFiredPanes();
    PAssert.that(paneSizes("always", elements, repeated)).containsInAnyOrder(1, 1, 0);
    PAssert.that(paneSizes("if not empty", elements, repeated.withOnTimeBehavior(Window.OnTimeBehavior.FIRE_IF_NON_EMPTY)))
        .containsInAnyOrder(1, 1);
  }

  private static PCollection<Integer> paneSizes(
      String name, PCollection<KV<String, Integer>> elements, Window<KV<String, Integer>> window) {
    return elements
        .apply("Window " + name, window)
        .apply("Group " + name, GroupByKey.create())
        .apply(
            "Size " + name,
            MapElements.into(TypeDescriptors.integers())
                .via(
                    group -> {
                      int size = 0;
                      for (int ignored : group.getValue()) size++;
                      return size;
                    }));
  }

  static class Delaying extends DoFn<KV<String, Integer>, String> {
    @TimerId("later")
    private final TimerSpec later = TimerSpecs.timer(TimeDomain.PROCESSING_TIME);

    @ProcessElement
    public void process(
        @Element KV<String, Integer> element, @TimerId("later") Timer later, OutputReceiver<String> out) {
      out.output("element " + element.getValue());
      if (element.getValue() == 1) later.offset(Duration.standardMinutes(10)).setRelative();
    }

    @OnTimer("later")
    public void onLater(OutputReceiver<String> out) {
      out.output("timer");
    }
  }

  /** The harness computes the time from its machine's clock; the TestStream's moves by events. */
  static void testStreamRelativeTimer(Pipeline p) {
    TestStream<KV<String, Integer>> stream =
        TestStream.create(KvCoder.of(StringUtf8Coder.of(), VarIntCoder.of()))
            .addElements(KV.of("k", 1))
            .advanceProcessingTime(Duration.standardMinutes(11))
            .advanceWatermarkToInfinity();
    PAssert.that(p.apply(stream).apply(ParDo.of(new Delaying()))).containsInAnyOrder("element 1", "timer");
  }

  static void rateLimitedSource(Pipeline p) {
    PCollection<Long> counts =
        p.apply(GenerateSequence.from(0).to(1000).withRate(1000, Duration.standardSeconds(1)))
            .apply(Window.into(FixedWindows.of(Duration.standardDays(1))))
            .apply(Combine.globally(Count.<Long>combineFn()).withoutDefaults());
    PAssert.that(counts)
        .satisfies(
            all -> {
              for (long count : all) if (count < 1) throw new AssertionError(count);
              return null;
            });
  }

  public static void main(String[] args) {
    if (args[0].equals("--list")) {
      PIPELINES.keySet().forEach(System.out::println);
      return;
    }
    PortablePipelineOptions options = PipelineOptionsFactory.create().as(PortablePipelineOptions.class);
    options.setRunner(PortableRunner.class);
    options.setJobEndpoint(args[0]);
    options.setDefaultEnvironmentType("LOOPBACK");
    options.setJobName("java-smoke");
    Pipeline pipeline = Pipeline.create(options);
    PIPELINES.get(args[1]).accept(pipeline);
    PipelineResult.State state = pipeline.run().waitUntilFinish();
    System.out.println("state: " + state);
    System.exit(state == PipelineResult.State.DONE ? 0 : 1);
  }
}
