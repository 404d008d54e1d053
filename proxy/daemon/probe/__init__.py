"""What the resolver, the policy and the verifier of the daemon make of a domain."""

from proxy.daemon.probe.running import Question, run

__all__ = ["Question", "run"]
