import XCTest

@testable import MLXTerp

final class ToolTests: HandleTests {
    private struct Norms: Decodable {
        let gradient_norms: Grid
    }

    func testAnAnalysisByNameAndByClosureAgree() throws {
        let model = try tiny()
        let prompts: ToolOption = [3, 7, 11, 20]
        let named = try model.run(
            "gradients", options: ["prompts": prompts, "sites": ["embed"]],
            metric: .logitDifference(answer: 3, wrong: 7))
        let own = try model.run(
            "gradients", options: ["prompts": prompts, "sites": ["embed"]],
            metric: .custom { t in
                let last = try t.output[0..., -1]
                return try last[0..., 3] - last[0..., 7]
            })
        let a = try named.tensor("gradient:embed.output").array(of: Float.self)
        let b = try own.tensor("gradient:embed.output").array(of: Float.self)
        XCTAssertEqual(a.count, 4 * 24)
        for (x, y) in zip(a, b) { XCTAssertEqual(x, y, accuracy: 1e-5) }
        XCTAssertEqual(try named.kind(), "gradients")
        XCTAssertEqual(try named.decode(Norms.self).gradient_norms.axes[0].labels, ["embed.output"])
        XCTAssertTrue(try named.html().contains("embed.output"))
        XCTAssertTrue("\(named)".contains("embed.output"))
        XCTAssertEqual(try named.tensorNames(), ["metric", "gradient:embed.output", "value:embed.output"])
    }

    func testErrorsComeBackAsThemselves() throws {
        struct Mine: Error, Equatable {}
        let model = try tiny()
        let options: [String: ToolOption] = ["prompts": [3, 7], "sites": ["embed"]]
        XCTAssertThrowsError(try model.run("gradients", options: options, metric: .custom { _ in throw Mine() })) {
            XCTAssertEqual($0 as? Mine, Mine())
        }
        let unknown = assertThrows(.invalidArgument, try model.run("gradient"))
        XCTAssertTrue(unknown?.message.contains("did you mean 'gradients'") == true)
        assertThrows(.invalidArgument, try model.run("gradients", options: options))
        assertThrows(.notFound, try model.run("gradients", options: options, metric: .logit(3)).tensor("nothing"))
    }

    private struct Measured: Decodable {
        struct Evaluation: Decodable { let faithfulness: Float }
        let evaluation: Evaluation
    }

    func testAttributionsAndCircuits() throws {
        let model = try tiny()
        let (clean, corrupt): (ToolOption, ToolOption) = ([3, 7, 11, 20], [3, 7, 12, 20])
        let metric = Metric.logitDifference(answer: 3, wrong: 7)
        let tokens = try model.integratedGradients(clean, metric: metric, baseline: corrupt, steps: 4)
        XCTAssertEqual(try tokens.tensor("attributions").shape, [1, 4, 24])
        let parts = try model.attributionPatching(clean: clean, corrupt: corrupt, metric: metric, components: ["head"])
        XCTAssertEqual(try parts.tensorNames(), ["head"])
        let edges = try model.edgeAttribution(clean: clean, corrupt: corrupt, metric: metric, method: "eap")
        XCTAssertEqual(try edges.tensor("scores").shape, [11, 19])
        XCTAssertEqual(try model.acdc(clean: clean, corrupt: corrupt, threshold: 0.1).kind(), "acdc")
        let layer: ToolOption = ["heads": 4, "groups": 2, "mlp": true, "mlp_sees_attention": true]
        let chosen: ToolOption = [
            "graph": ["layers": [layer, layer]], "edges": [["from": "embed", "to": "logits", "score": 1.0]],
        ]
        let measured = try model.circuit(chosen, clean: clean, corrupt: corrupt, metric: metric)
        XCTAssertTrue(try measured.decode(Measured.self).evaluation.faithfulness.isFinite)
        assertThrows(
            .invalidArgument,
            try model.edgeAttribution(clean: clean, corrupt: [3, 7], metric: metric))
    }
}

final class PatchingTests: HandleTests {
    private let clean: ToolOption = [1, 5, 9, 2, 8, 30]
    private let corrupt: ToolOption = [1, 7, 9, 2, 3, 30]
    private let metric = Metric.logitDifference(answer: 3, wrong: 7)

    func testGridsTracesAndPaths() throws {
        let model = try tiny()
        let grid = try model.activationPatching(clean: clean, corrupt: corrupt, metric: metric, component: "z")
        XCTAssertEqual(try grid.tensor("normalised").array(of: Float.self).count, 2 * 4)
        let whole = try model.activationPatching(clean: clean, corrupt: corrupt, metric: metric, axes: ["layer"])
        XCTAssertEqual(try whole.tensor("normalised").array(of: Float.self), [1, 1])
        let trace = try model.causalTracing(clean, subject: [1, 2], answer: 3, more: ["samples": 2])
        XCTAssertEqual(try trace.tensor("restored").array(of: Float.self).count, 2 * 6)
        let to: ToolOption = [["input": "q", "layer": 1, "head": 2]]
        let paths = try model.pathPatching(clean: clean, corrupt: corrupt, metric: metric, receivers: to)
        XCTAssertEqual(try Array(paths.tensor("normalised").array(of: Float.self)[4...]), [1, 1, 1, 1])
        let short = assertThrows(
            .invalidArgument, try model.activationPatching(clean: clean, corrupt: [1, 2], metric: metric))
        XCTAssertTrue(short?.message.contains("6 tokens") == true)
    }
}
