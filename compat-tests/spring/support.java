import java.io.Closeable;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.core.RabbitAdmin;

/** What the programs here share: the broker's address, a time limit, names that nobody else uses, clean-up. */
final class Support {
    static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final long TIME_LIMIT_MS = 60_000;

    private static final String SUFFIX = UUID.randomUUID().toString();
    private static final Deque<String> QUEUES = new ArrayDeque<>();
    private static final Deque<String> EXCHANGES = new ArrayDeque<>();
    private static final Deque<Closeable> OPEN = new ArrayDeque<>();

    private Support() {
    }

    interface Program {
        void run() throws Exception;
    }

    /** Runs a program within the time limit, and deletes what it made. */
    static void run(Program program) {
        Logger.getLogger("").setLevel(Level.SEVERE);
        Thread limit = new Thread(() -> {
            try {
                Thread.sleep(TIME_LIMIT_MS);
                System.err.println("still running after " + TIME_LIMIT_MS + " ms");
                Runtime.getRuntime().halt(1);
            } catch (InterruptedException ended) {
                Thread.currentThread().interrupt();
            }
        });
        limit.setDaemon(true);
        limit.start();
        int status = 0;
        try {
            program.run();
        } catch (Throwable cause) {
            cause.printStackTrace();
            status = 1;
        }
        try {
            while (!OPEN.isEmpty()) {
                OPEN.pop().close();
            }
            CachingConnectionFactory connections = connections();
            RabbitAdmin admin = new RabbitAdmin(connections);
            QUEUES.forEach(admin::deleteQueue);
            EXCHANGES.forEach(admin::deleteExchange);
            connections.destroy();
        } catch (Throwable cause) {
            cause.printStackTrace();
            status = 1;
        }
        System.exit(status);
    }

    static CachingConnectionFactory connections() {
        CachingConnectionFactory connections = new CachingConnectionFactory();
        connections.setUri(Objects.requireNonNullElse(System.getenv("AMQP_URL"), "amqp://localhost"));
        OPEN.push(connections::destroy);
        return connections;
    }

    /** To be closed in the end, before connections made earlier. */
    static void closeLater(Runnable close) {
        OPEN.push(close::run);
    }

    static String uniqueQueue(String name) {
        QUEUES.push("compat.spring." + name + "." + SUFFIX);
        return QUEUES.peek();
    }

    static String uniqueExchange(String name) {
        EXCHANGES.push("compat.spring." + name + "." + SUFFIX);
        return EXCHANGES.peek();
    }

    static void equal(Object actual, Object expected, String what) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(what + "\n  expected: " + expected + "\n  actual:   " + actual);
        }
    }

    static <T> T next(BlockingQueue<T> queue, String what) throws InterruptedException {
        T next = queue.poll(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        if (next == null) {
            throw new AssertionError("waited in vain for " + what);
        }
        return next;
    }

    static void waitUntil(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!condition.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("waited in vain: " + what);
            }
            Thread.sleep(20);
        }
    }

    /** Restarts the broker; false if it is not the runner's. */
    static boolean restartBroker() throws IOException, InterruptedException {
        String command = System.getenv("BROKER_RESTART");
        if (command == null) {
            System.out.println("not our broker to restart");
            return false;
        }
        equal(new ProcessBuilder(command).inheritIO().start().waitFor(), 0, "restart of the broker");
        return true;
    }
}
