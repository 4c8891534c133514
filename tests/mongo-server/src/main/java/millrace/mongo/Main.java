package millrace.mongo;

import de.bwaldvogel.mongo.MongoServer;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;

/** Usage: Main [PORT [VERSION]]. Prints "listening on 127.0.0.1:PORT" and serves until standard input ends. */
public final class Main {
    private static final int THREADS = 64; // a getMore that waits holds one

    public static void main(String[] arguments) throws Exception {
        int port = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 0;
        List<Integer> version = new ArrayList<>();
        for (String part : (arguments.length > 1 ? arguments[1] : "7.0.0").split("\\.")) {
            version.add(Integer.valueOf(part));
        }
        ReplicaSet backend = new ReplicaSet(version);
        MongoServer server = new MongoServer(backend);
        server.bind(new InetSocketAddress("127.0.0.1", port), 1, THREADS);
        String host = "127.0.0.1:" + server.getLocalAddress().getPort();
        backend.host(host);
        System.out.println("listening on " + host);
        System.out.flush();
        while (System.in.read() >= 0) {
            // Until whoever started us is gone.
        }
        Runtime.getRuntime().halt(0);
    }

    private Main() {
    }
}
