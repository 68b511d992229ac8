module iam-token-refresher/bench

go 1.26
