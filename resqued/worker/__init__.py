"""The worker's side: taking, performing and recovering jobs. The only rooms that know RQ."""
