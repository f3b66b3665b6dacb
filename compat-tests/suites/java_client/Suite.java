import java.io.File;
import java.io.FileWriter;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.Test;
import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.Request;
import org.junit.runner.manipulation.Filter;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;

/**
 * Runs the JUnit tests in a directory of classes, one after the other, and writes a line a test: outcome, id, message.
 *
 * <p>{@code Suite CLASSES RESULTS [TEXT ...]}: with texts only the tests whose ids contain one of them. Tests that RESULTS
 * names already are not run again. A test that takes too long fails and ends the program with status 3, for nothing else ends
 * a thread that hangs; the caller starts it again for the rest.
 */
public final class Suite {
    private static final String PREFIX = "com.rabbitmq.";
    private static final long PATIENCE_MS = 180_000;
    private static final int AGAIN = 3;
    private static final int MESSAGE_LENGTH = 300;
    /** Loads the broker until its process ends; in none of the suites that the authors run. */
    private static final String ENDLESS = "com.rabbitmq.client.test.server.Bug19219Test";

    private Suite() {
    }

    public static void main(String[] args) throws Exception {
        // Its static part reads the suite's configuration into the system properties.
        Class.forName("com.rabbitmq.client.test.AbstractRMQTestSuite");
        List<String> texts = List.of(args).subList(2, args.length);
        Results results = new Results(new File(args[1]));
        Filter wanted = new Filter() {
            @Override
            public boolean shouldRun(Description description) {
                if (!description.isTest()) {
                    return description.getChildren().stream().anyMatch(this::shouldRun);
                }
                String id = id(description);
                return !results.has(id) && (texts.isEmpty() || texts.stream().anyMatch(id::contains));
            }

            @Override
            public String describe() {
                return "not run yet";
            }
        };
        JUnitCore core = new JUnitCore();
        core.addListener(results);
        watch(results);
        for (Class<?> tests : testClasses(Path.of(args[0]))) {
            Request request = Request.aClass(tests);
            if (wanted.shouldRun(request.getRunner().getDescription())) {
                core.run(request.filterWith(wanted));
                // Connections that tests leave behind go on recovering; the next class gets a machine of its own.
                if (Thread.getAllStackTraces().keySet().stream().filter(thread -> !thread.isDaemon()).count() > 1) {
                    Runtime.getRuntime().halt(AGAIN);
                }
            }
        }
        // Threads that tests leave behind do not matter any more.
        Runtime.getRuntime().halt(0);
    }

    /** Every class with tests of its own or inherited, by name; those that a suite makes up of others have none. */
    private static List<Class<?>> testClasses(Path root) throws Exception {
        List<Path> files;
        try (Stream<Path> walk = Files.walk(root)) {
            files = walk.filter(file -> file.toString().endsWith(".class") && !file.toString().contains("$")).sorted()
                .collect(Collectors.toList());
        }
        List<Class<?>> classes = new ArrayList<>();
        for (Path file : files) {
            String path = root.relativize(file).toString();
            if (!path.startsWith("com")) {
                continue;
            }
            Class<?> found = Class.forName(path.substring(0, path.length() - ".class".length()).replace(File.separatorChar, '.'),
                false, Suite.class.getClassLoader());
            if (!Modifier.isAbstract(found.getModifiers()) && !found.getName().equals(ENDLESS)
                && Stream.of(found.getMethods()).anyMatch(method -> method.isAnnotationPresent(Test.class))) {
                classes.add(found);
            }
        }
        return classes;
    }

    private static String id(Description description) {
        String name = description.getClassName();
        name = name.startsWith(PREFIX) ? name.substring(PREFIX.length()) : name;
        name = name.startsWith("client.test.") ? name.substring("client.test.".length()) : name;
        return description.getMethodName() == null ? name : name + "." + description.getMethodName();
    }

    private static void watch(Results results) {
        Thread watch = new Thread(() -> {
            while (true) {
                try {
                    Thread.sleep(500);
                } catch (InterruptedException cause) {
                    return;
                }
                if (results.failIfLate()) {
                    Runtime.getRuntime().halt(AGAIN);
                }
            }
        });
        watch.setDaemon(true);
        watch.start();
    }

    /** What the tests came to. */
    private static final class Results extends RunListener {
        private final PrintWriter out;
        private final Set<String> written = new HashSet<>();
        private final Map<String, String> outcomes = new HashMap<>();
        private String running;
        private long started;

        Results(File file) throws IOException {
            if (file.exists()) {
                for (String line : Files.readAllLines(file.toPath())) {
                    written.add(line.split("\t")[1]);
                }
            }
            out = new PrintWriter(new FileWriter(file, true), true);
        }

        synchronized boolean has(String id) {
            return written.contains(id);
        }

        @Override
        public synchronized void testStarted(Description description) {
            running = id(description);
            started = System.nanoTime();
            System.out.println("== " + running);
        }

        @Override
        public synchronized void testFailure(Failure failure) {
            System.out.println("-- " + id(failure.getDescription()) + ": " + failure.getTrace());
            outcomes.put(id(failure.getDescription()), "fail\t" + line(failure.getException()));
            if (!failure.getDescription().isTest()) {
                write(id(failure.getDescription()));
            }
        }

        @Override
        public synchronized void testAssumptionFailure(Failure failure) {
            outcomes.put(id(failure.getDescription()), "skip\t" + line(failure.getException()));
        }

        @Override
        public synchronized void testIgnored(Description description) {
            outcomes.put(id(description), "skip\tits authors ignore it");
            write(id(description));
        }

        @Override
        public synchronized void testFinished(Description description) {
            System.out.printf("== %s took %d ms%n", running, (System.nanoTime() - started) / 1_000_000);
            running = null;
            write(id(description));
        }

        synchronized boolean failIfLate() {
            if (running == null || System.nanoTime() - started < PATIENCE_MS * 1_000_000) {
                return false;
            }
            Thread.getAllStackTraces().forEach((thread, frames) -> {
                System.out.println(thread);
                for (StackTraceElement frame : frames) {
                    System.out.println("    at " + frame);
                }
            });
            outcomes.put(running, "fail\tdid not end in " + PATIENCE_MS / 1000 + " s");
            write(running);
            return true;
        }

        private void write(String id) {
            String[] outcome = outcomes.getOrDefault(id, "pass\t").split("\t", 2);
            written.add(id);
            out.println(outcome[0] + "\t" + id + "\t" + outcome[1]);
        }

        private static String line(Throwable thrown) {
            StringWriter text = new StringWriter();
            for (Throwable cause = thrown; cause != null; cause = cause.getCause()) {
                text.append(text.getBuffer().length() == 0 ? "" : "; ").append(cause.toString());
            }
            String line = text.toString().replaceAll("\\s+", " ");
            return line.length() > MESSAGE_LENGTH ? line.substring(0, MESSAGE_LENGTH) : line;
        }
    }
}
