"""The plugins that come with Bascule, one a file, written against the public interface only."""
