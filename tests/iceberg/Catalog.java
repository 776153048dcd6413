// The Iceberg project's own REST catalog, over SQLite, as its RESTCatalogServer has it, but for the address: that one listens on all.
//     java -cp 'JARS/*' tests/iceberg/Catalog.java PORT DATABASE WAREHOUSE

import java.net.InetSocketAddress;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

public class Catalog {
    public static void main(String[] args) throws Exception {
        var settings = Map.of(
            "catalog-impl", "org.apache.iceberg.jdbc.JdbcCatalog",
            "uri", "jdbc:sqlite:" + args[1],
            "jdbc.schema-version", "V1",
            // Two connections to SQLite would be in each other's way.
            "clients", "1",
            "warehouse", "file://" + args[2],
            "io-impl", "org.apache.iceberg.hadoop.HadoopFileIO");
        var catalog = CatalogUtil.buildIcebergCatalog("tests", settings, new Configuration());
        var context = new ServletContextHandler();
        context.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
        var server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
        server.setHandler(context);
        server.start();
        server.join();
    }
}
